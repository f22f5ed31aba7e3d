"""Clips held out of a source, the same ones in every stage that uses it."""

import dataclasses
import hashlib
from collections.abc import Sequence

from fv_jax.data.sources.base import Entry, Source, open_source


@dataclasses.dataclass(frozen=True)
class Part:
    """Some clips of a source, or all."""

    source: Source
    entries: list[Entry]


def open_whole(name: str) -> Part:
    """All clips of a source; see `open_source`."""
    source = open_source(name)
    return Part(source, [source[i] for i in range(len(source))])


def open_split(name: str, valid: str, share: float) -> tuple[Part, Part]:
    """Clips to train on, and clips to evaluate on.

    Args:
        name: names a source, as `open_source` takes it.
        valid: names another one for evaluation; "" holds clips of the first one out.
        share: the share of clips to hold out, in (0, 1).

    Raises:
        FileNotFoundError: a folder or file of a source is missing.
        ValueError: no such kind or option, no clips, or too few to hold one out.
    """
    every = open_whole(name)
    if valid:
        return every, open_whole(valid)
    sides = split([entry.id for entry in every.entries], share)
    train, held = (Part(every.source, [every.entries[i] for i in side]) for side in sides)
    return train, held


def split(ids: Sequence[str], share: float) -> tuple[list[int], list[int]]:
    """Numbers of the clips to train on, and of those held out.

    Args:
        ids: the id of every clip; clips with the same id stay together.
        share: the share of ids to hold out, in (0, 1).

    Raises:
        ValueError: fewer than two ids, or a share outside (0, 1).
    """
    held = held_out(list(dict.fromkeys(ids)), share)
    sides = ([], [])
    for number, clip in enumerate(ids):
        sides[clip in held].append(number)
    return sides


def held_out(ids: Sequence[str], share: float) -> set[str]:
    """The ids that are kept for evaluation: those with the smallest hashes.

    Which ones does not depend on their order, and hardly on what else there is.

    Args:
        ids: the id of every clip.
        share: the share to hold out, in (0, 1); at least one clip is, and at least one is not.

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
