"""Guesses for ids not yet sampled: for each place of a sequence, an earlier place to copy from.

A draft policy is a pure function of the sequence's layout; it returns int32 [T], -1 where there
is no guess. Text and serial numbers are always known, so what stands there does not matter.
"""

import numpy as np
from jaxtyping import Int

from fv_jax.config.model import SequenceConfig


def nothing(blocks: int, sequence: SequenceConfig) -> Int[np.ndarray, " T"]:
    """No guesses."""
    return np.full(blocks * sequence.stride, -1, np.int32)


def previous_frame(blocks: int, sequence: SequenceConfig) -> Int[np.ndarray, " T"]:
    """The same patch of the frame before; for key frames.

    The first frame has none: there it is the patch above, and in the first row the one before.
    """
    place = np.arange(blocks * sequence.stride)
    guess = np.maximum(place - sequence.stride, -1)
    first = place[sequence.stride - sequence.frame_tokens : sequence.stride]
    columns = sequence.frame_grid[1]
    guess[first[1:columns]] = first[: columns - 1]
    guess[first[columns:]] = first[:-columns]
    return guess.astype(np.int32)


def neighboring_frame(inserted: int, sequence: SequenceConfig) -> Int[np.ndarray, " T"]:
    """The same patch of a frame beside it; for inserted frames, in a sequence [A, B, 1 .. n].

    The last one looks at B, the others at the frame before them, the first of which is A.
    """
    guess = nothing(inserted + 2, sequence).reshape(-1, sequence.stride)
    for frame in range(1, inserted + 1):
        beside = 1 if frame == inserted > 1 else frame if frame > 1 else 0
        guess[frame + 1] = np.arange(sequence.stride) + beside * sequence.stride
    return guess.reshape(-1)
