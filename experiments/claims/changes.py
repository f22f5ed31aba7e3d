"""What the packed sequence looks like in each variant of a claim.

A change takes packed tokens [B, T] (`sequence/packing.py`) and gives others of the same length, so
that every variant costs the same and the same patch of the next frame stays equally far away.
The places of text and serial numbers are filled with what says nothing.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from fv_jax.config.model import SequenceConfig
from fv_jax.sequence.vocab import PAD, Vocab

Change = Callable[[Int[np.ndarray, "B T"], SequenceConfig], Int[np.ndarray, "B T"]]


def as_it_is(tokens: np.ndarray, sequence: SequenceConfig) -> np.ndarray:
    """The paper's sequence: text and a serial number before every frame."""
    del sequence
    return tokens


def one_serial(tokens: np.ndarray, sequence: SequenceConfig) -> np.ndarray:
    """Every frame has serial number 1: where a frame begins is said, not which one it is."""
    blocks = _blocks(tokens, sequence)
    serial = blocks[..., sequence.text_tokens]
    blocks[..., sequence.text_tokens] = np.where(serial == PAD, PAD, Vocab(sequence).serial(1))
    return blocks.reshape(tokens.shape)


def text_once(tokens: np.ndarray, sequence: SequenceConfig) -> np.ndarray:
    """The text stands before the first frame alone."""
    blocks = _blocks(tokens, sequence)
    blocks[:, 1:, : sequence.text_tokens] = PAD
    return blocks.reshape(tokens.shape)


def neither(tokens: np.ndarray, sequence: SequenceConfig) -> np.ndarray:
    """Both changes."""
    return text_once(one_serial(tokens, sequence), sequence)


def left_to_right(tokens: np.ndarray, sequence: SequenceConfig) -> np.ndarray:
    """[A, B, 1 .. n] becomes [A, 1 .. n, B]: what lies between is made without seeing B."""
    blocks = _blocks(tokens, sequence)
    order = [0, *range(2, blocks.shape[1]), 1]
    return blocks[:, order].reshape(tokens.shape)


def _blocks(tokens: np.ndarray, sequence: SequenceConfig) -> np.ndarray:
    return tokens.reshape(len(tokens), -1, sequence.stride).copy()
