"""Where a frame's ids stand in the frames nearest in time (beyond the paper).

A place of a frame knows 3 x 3 places around itself in each of two frames that stand before it in
the sequence: the nearest one before it in time and the nearest one after it, or, where none comes
after, the two nearest before.

    key frames     2 knows 1     3 knows 2 and 1     4 knows 3 and 2
    interpolation  B knows A     insert 1 knows A and B     insert 2 knows insert 1 and B

Where frames are coded as what changed (`sequence/changes.py`), the first of the two is the base,
and the other one the nearest on the other side. When an id is chosen, what precedes its place is
known of the frame itself, instead of the base.

`models/nearby.py` reads the ids that stand there.
"""

import functools
import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from fv_jax.config.model import NEARBY_FRAMES as FRAMES
from fv_jax.config.model import NEARBY_TAPS as TAPS
from fv_jax.config.model import SequenceConfig
from fv_jax.sequence.changes import bases
from fv_jax.sequence.vocab import FREE

NONE = -1  # in place of a code


def neighbors(
    order: Sequence[int], sequence: SequenceConfig, *, changes: bool = False, decided: bool = False
) -> Int[np.ndarray, "T nearby"]:
    """For each place of a sequence, the places that it knows; -1 for none.

    Args:
        order: when each block's frame is, in any unit of time.
        sequence: layout of the blocks.
        changes: whether frames are coded as what changed.
        decided: then, whether what precedes a place is known of its own frame.
    """
    return _neighbors(tuple(order), sequence, changes, decided)


@functools.lru_cache(maxsize=64)
def _neighbors(
    order: tuple[int, ...], sequence: SequenceConfig, changes: bool, decided: bool
) -> np.ndarray:
    h, w = sequence.frame_grid
    y, x = np.mgrid[:h, :w]
    slots = np.full((sequence.stride, TAPS), -1)
    for tap, (down, right) in enumerate(itertools.product((-1, 0, 1), repeat=2)):
        inside = (0 <= y + down) & (y + down < h) & (0 <= x + right) & (x + right < w)
        place = (y + down) * w + x + right + sequence.header
        slots[sequence.header :, tap] = np.where(inside, place, -1).ravel()
    found = np.full((len(order), sequence.stride, FRAMES, TAPS), -1)
    for block, time in enumerate(order):
        known = sorted(range(block), key=lambda other: order[other])
        before = [other for other in known if order[other] < time][::-1]
        after = [other for other in known if order[other] > time]
        frames = [*before[:1], *after[:1], *before[1:]]
        if changes and block:
            base = bases(order)[block]
            beyond = after if order[base] < time else before
            frames = [base, *beyond[:1], *(other for other in before if other != base)]
        for frame, other in enumerate(frames[:FRAMES]):
            found[block, :, frame] = np.where(slots < 0, -1, slots + other * sequence.stride)
            if decided and not frame:
                before_it = found[block, :, frame, : TAPS // 2]
                before_it += np.where(before_it < 0, 0, (block - other) * sequence.stride)
    found = found.reshape(-1, FRAMES * TAPS).astype(np.int32)
    found.flags.writeable = False  # others are given the same
    return found


def codes_nearby(
    tokens: Int[np.ndarray, " T"], places: Int[np.ndarray, "*b nearby"], frame_start: int
) -> Int[np.ndarray, "*b nearby"]:
    """The frame codes that stand at places of a row; `NONE` where there is no place or no id."""
    ids = np.where(places < 0, FREE, tokens[np.maximum(places, 0)])
    return np.maximum(ids - frame_start, NONE).astype(np.int32)
