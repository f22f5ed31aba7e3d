"""Guesses for ids not yet sampled: for each place of a sequence, an earlier place to copy from.

A draft policy is a pure function of the sequence's layout; it returns int32 [L], -1 where there
is no guess. Text and serial numbers are always known, so what stands there does not matter.
"""

import numpy as np
from jaxtyping import Int

from fv_jax.config import SequenceConfig


def nothing(blocks: int, sequence: SequenceConfig) -> Int[np.ndarray, " L"]:
    """No guesses."""
    return np.full(blocks * sequence.stride, -1, np.int32)


def previous_frame(blocks: int, sequence: SequenceConfig) -> Int[np.ndarray, " L"]:
    """The same patch of the frame before; for key frames."""
    place = np.arange(blocks * sequence.stride)
    return np.maximum(place - sequence.stride, -1).astype(np.int32)


def nearer_key_frame(inserted: int, sequence: SequenceConfig) -> Int[np.ndarray, " L"]:
    """The same patch of A or B, whichever is nearer in time (A at half way); for [A, B, 1 .. n]."""
    guess = nothing(inserted + 2, sequence).reshape(-1, sequence.stride)
    places = np.arange(sequence.stride)
    for frame in range(1, inserted + 1):
        near_b = 2 * frame > inserted + 1
        guess[frame + 1] = places + near_b * sequence.stride
    return guess.reshape(-1)
