"""Frames as what changed: every frame after the first is a list of the ids that differ.

    whole    [text SN_1 | a b c d] [text SN_2 | a e c f] [text SN_3 | a e c f]
    changed  [text SN_1 | a b c d] [text SN_2 |   e   f] [text SN_3 |        ]
    place                0 1 2 3                1   3

A frame is compared with its base, of the frames that stand before it in the sequence: a key frame
with the one before it in time, B with A, and what is put between A and B with the nearer of these.
So what is wrong in one inserted frame is not handed on to the next. Places are positions
(`sequence/skipping.py`); that a frame ends is no token, but that the next position is beyond it.
Every video has one such row, and the row has the video: nothing is lost.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from fv_jax.config.model import SequenceConfig
from fv_jax.sequence.skipping import Compact
from fv_jax.sequence.vocab import Vocab


def bases(order: Sequence[int]) -> list[int]:
    """The block that each block's frame is compared with; its own for the first.

    Args:
        order: when each block's frame is, in any unit of time; the first block's is the earliest.
            Frames between others lie between the first two.
    """
    found = [0]
    for block, time in list(enumerate(order))[1:]:
        between = time < max(order[:block])
        known = [0, 1] if between else range(block)
        found.append(min(known, key=lambda other: (abs(order[other] - time), other)))
    return found


def unchanged(
    tokens: Int[np.ndarray, "B T"], order: Sequence[int], sequence: SequenceConfig
) -> Bool[np.ndarray, "B T"]:
    """Which ids of packed rows are those of their base: what a row of changes leaves out."""
    blocks = tokens.reshape(len(tokens), len(order), sequence.stride)
    base = bases(order)
    same = blocks == blocks[:, base]
    same[..., : sequence.header] = False
    same[:, [block for block, other in enumerate(base) if block == other]] = False
    return same.reshape(tokens.shape)


def whole(row: Compact, order: Sequence[int], sequence: SequenceConfig) -> Int[np.ndarray, "B F P"]:
    """Frame codes, in packed order, of rows of changes."""
    size = len(order) * sequence.stride
    codes = np.full((len(row.tokens), size + 1), -1)
    places = np.where(row.real, row.positions[:, :-1], size)
    np.put_along_axis(codes, places, row.tokens - Vocab(sequence).frame_start, axis=1)
    frames = codes[:, :-1].reshape(-1, len(order), sequence.stride)[..., sequence.header :]
    for block, base in enumerate(bases(order)):
        same = frames[:, block] < 0
        frames[:, block][same] = frames[:, base][same]
    return frames
