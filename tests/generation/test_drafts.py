"""Where guesses are copied from."""

import dataclasses

import numpy as np

from fv_jax.config.model import SequenceConfig
from fv_jax.generation import drafts

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


def test_the_first_frame_looks_up_and_in_its_first_row_back():
    grid = dataclasses.replace(SEQUENCE, frame_grid=(3, 2))
    frame = drafts.previous_frame(1, grid)[3:] - 3
    np.testing.assert_array_equal(frame, [-4, 0, 0, 1, 2, 3])


def test_inserted_frames_look_at_the_frame_beside_them_in_the_same_place():
    guesses = drafts.neighboring_frame(4, SEQUENCE)
    np.testing.assert_array_equal(blocks(guesses)[:, 0], [-1, -1, 0, 2, 3, 1])
    for inserted, want in ((0, []), (1, [0]), (2, [0, 1])):
        few = blocks(drafts.neighboring_frame(inserted, SEQUENCE))[2:, 0]
        np.testing.assert_array_equal(few, want)
    places = np.arange(len(guesses))
    known = guesses >= 0
    np.testing.assert_array_equal(guesses[known] % 6, places[known] % 6)
