"""Which places of earlier frames a place knows."""

import numpy as np
import pytest

from fv_jax.config.model import NEARBY_FRAMES as FRAMES
from fv_jax.config.model import NEARBY_TAPS as TAPS
from fv_jax.config.model import SequenceConfig
from fv_jax.sequence.nearby import codes_nearby, neighbors
from fv_jax.sequence.packing import given_order, interpolation_serials
from fv_jax.sequence.vocab import FREE, PAD, Vocab

SEQUENCE = SequenceConfig(
    text_tokens=2, frame_grid=(3, 4), text_vocabulary=5, frame_codes=9, serial_numbers=9
)
STRIDE, HEADER = SEQUENCE.stride, SEQUENCE.header


def blocks(order):
    """The blocks that each block's places know, -1 for none."""
    found = neighbors(order, SEQUENCE).reshape(len(order), STRIDE, FRAMES, TAPS)
    middle = found[:, HEADER, :, TAPS // 2]
    return np.where(middle < 0, -1, middle // STRIDE).tolist()


@pytest.mark.parametrize(
    ("order", "want"),
    [
        (range(4), [[-1, -1], [0, -1], [1, 0], [2, 1]]),
        (interpolation_serials(3), [[-1, -1], [0, -1], [0, 1], [2, 1], [3, 1]]),
        (given_order(3, 4), [[-1, -1], [0, -1], [0, 1], [1, 2], [3, 1]]),
    ],
)
def test_the_frames_nearest_in_time_that_stand_before_are_known(order, want):
    assert blocks(order) == want


def test_taps_are_the_places_around_within_the_frame_and_headers_know_nothing():
    found = neighbors(range(2), SEQUENCE).reshape(2, STRIDE, FRAMES, TAPS)
    assert (found[0] == -1).all()
    assert (found[:, :HEADER] == -1).all()
    assert (found[:, :, 1] == -1).all()
    taps = found[1, HEADER:, 0].reshape(3, 4, TAPS)
    for y in range(3):
        for x in range(4):
            around = [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
            inside = [0 <= i < 3 and 0 <= j < 4 for i, j in around]
            want = [HEADER + i * 4 + j if ok else -1 for (i, j), ok in zip(around, inside)]
            assert taps[y, x].tolist() == want


@pytest.mark.parametrize("order", [range(5), interpolation_serials(3), given_order(4, 6)])
def test_no_place_knows_of_its_own_block_or_a_later_one(order):
    found = neighbors(order, SEQUENCE)
    assert (found // STRIDE < np.arange(len(found))[:, None] // STRIDE).all()


def test_what_stands_there_is_a_code_or_none():
    start = Vocab(SEQUENCE).frame_start
    tokens = np.asarray([PAD, 3, start, start + 8, FREE])
    places = np.asarray([[0, 1, 2, 3, 4, -1]])
    assert codes_nearby(tokens, places, start).tolist() == [[-1, -1, 0, 8, -1, -1]]
