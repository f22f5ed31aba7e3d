"""Where guesses are copied from."""

import numpy as np

from fv_jax.config import SequenceConfig
from fv_jax.sampling import drafts

SEQUENCE = SequenceConfig(
    text_tokens=2, frame_grid=(1, 3), text_vocabulary=9, frame_codes=4, serial_numbers=9
)  # six tokens a block


def blocks(guesses):
    return np.where(guesses < 0, -1, guesses // 6).reshape(-1, 6)[:, 3:]


def test_nothing_guesses_nothing():
    assert (drafts.nothing(3, SEQUENCE) == -1).all()
    assert drafts.nothing(3, SEQUENCE).shape == (18,)


def test_the_previous_frame_is_one_block_back():
    guesses = drafts.previous_frame(3, SEQUENCE)
    np.testing.assert_array_equal(guesses[6:], np.arange(12))
    assert (guesses[:6] == -1).all()


def test_inserted_frames_look_at_the_nearer_key_frame_in_the_same_place():
    guesses = drafts.nearer_key_frame(3, SEQUENCE)
    np.testing.assert_array_equal(blocks(guesses)[:, 0], [-1, -1, 0, 0, 1])
    np.testing.assert_array_equal(blocks(drafts.nearer_key_frame(1, SEQUENCE))[:, 0], [-1, -1, 0])
    places = np.arange(len(guesses))
    known = guesses >= 0
    np.testing.assert_array_equal(guesses[known] % 6, places[known] % 6)
