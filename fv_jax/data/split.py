"""Clips held out of a source, the same ones in every stage that uses it."""

import hashlib
from collections.abc import Sequence


def held_out(ids: Sequence[str], share: float) -> set[str]:
    """The ids that are kept for evaluation: those with the smallest hashes.

    Which ones does not depend on their order, and hardly on what else there is.

    Args:
        ids: of all clips.
        share: of them to hold out, in (0, 1); at least one is, and at least one is not.

    Raises:
        ValueError: fewer than two clips, or a share outside (0, 1).
    """
    if len(ids) < 2:
        raise ValueError(
            f"{len(ids)} clip is too few to hold one out; add clips, or name others for evaluation"
        )
    if not 0 < share < 1:
        raise ValueError(f"the share held out must be in (0, 1), got {share}")
    count = min(max(1, round(share * len(ids))), len(ids) - 1)
    ranked = sorted(ids, key=lambda clip: hashlib.sha256(clip.encode()).digest())
    return set(ranked[:count])
