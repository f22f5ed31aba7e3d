"""The predictor and the ring, on grids that are small enough to know who must win."""

import numpy as np
import pytest

from experiments.benches.skip_predictor import Pairs, compare, features, fit


def pairs(count=200, seed=0):
    """Ids of which one place blinks: equal in A and B, another in between."""
    rng = np.random.default_rng(seed)
    a = np.broadcast_to(rng.integers(0, 4, (count, 1, 1)), (count, 5, 5)).copy()
    b, middle = a.copy(), a.copy()
    blinks = rng.integers(0, 2, count).astype(bool)
    b[:, 2, 2] = 4  # a different id beside ..
    middle[blinks, 2, 3] = 5  # .. one that blinks
    return Pairs(a, b, middle, np.full(count, 4))


def test_the_ring_inherits_what_no_different_id_is_near_to():
    (row,) = compare(pairs(), np.zeros((200, 5, 5)))
    assert row["ring 0: inherited"] == pytest.approx(24 / 25)
    assert row["ring 1: inherited"] == pytest.approx(16 / 25)
    assert row["ring 2: inherited"] == 0
    assert row["ring 1: wrong"] == 0 < row["ring 0: wrong"]


def test_the_predictor_learns_where_ids_change_and_inherits_all_others():
    learned, judged = pairs(), pairs(seed=1)
    same = learned.a == learned.b
    w = fit(features(learned, (3, 3), (4,))[same], learned.wrong[same], steps=200)
    (row,) = compare(judged, features(judged, (3, 3), (4,)) @ w[:-1] + w[-1])
    assert row["predictor, as many wrong as ring 1"] == pytest.approx(23 / 25)


def test_a_predictor_that_knows_nothing_inherits_no_more_than_there_is_luck():
    judged = pairs()
    (row,) = compare(judged, -judged.wrong.astype(float))  # the wrong ones first
    assert row["predictor, 0.5% wrong"] == 0


def test_pairs_are_of_the_frames_that_are_there():
    clip = np.arange(9)[:, None, None] * np.ones((1, 2, 2), int)
    found = Pairs.of([clip], (2, 4, 16), 3)
    assert set(found.gap.tolist()) == {2, 4}
    np.testing.assert_array_equal(found.b - found.a, found.gap[:, None, None] * np.ones((1, 2, 2)))
    np.testing.assert_array_equal(found.middle - found.a, (found.b - found.a) // 2)
