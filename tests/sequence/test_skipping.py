"""Rows without what is left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fv_jax.sequence.skipping import compact
from fv_jax.sequence.vocab import PAD


def test_what_is_left_keeps_its_order_and_its_place():
    tokens = np.asarray([[10, 11, 12, 13, 14], [20, 21, 22, 23, 24]])
    left_out = np.asarray([[0, 1, 0, 1, 0], [0, 0, 0, 0, 1]], bool)
    rows = compact(tokens, left_out, 4)
    assert rows.tokens.tolist() == [[10, 12, 14, PAD], [20, 21, 22, 23]]
    assert rows.positions.tolist() == [[0, 2, 4, 5, 5], [0, 1, 2, 3, 4]]
    assert rows.length.tolist() == [3, 4]
    assert rows.real.tolist() == [[True, True, True, False], [True] * 4]


@pytest.mark.parametrize("size", [1, 3])
def test_a_row_that_does_not_fit_is_cut_off_at_its_end(size):
    rows = compact(np.arange(6)[None] + 1, np.asarray([[0, 1, 0, 0, 1, 0]], bool), size)
    assert rows.tokens.tolist() == [[1, 3, 4][:size]]
    assert rows.positions.tolist() == [[0, 2, 3, 4] if size == 3 else [0, 1]]
    assert rows.length.tolist() == [size]


@given(
    seed=st.integers(0, 2**31), rows=st.integers(1, 4), tokens=st.integers(1, 30),
    more=st.integers(0, 9),
)  # fmt: skip
def test_nothing_else_is_lost(seed, rows, tokens, more):
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, 99, (rows, tokens))
    left_out = rng.uniform(size=ids.shape) < rng.uniform(size=(rows, 1))
    few = compact(ids, left_out, int((~left_out).sum(axis=1).max()) + more)
    np.testing.assert_array_equal(few.length, (~left_out).sum(axis=1))
    back = np.full_like(ids, -5)
    row, place = np.nonzero(few.real)
    back[row, few.positions[row, place]] = few.tokens[row, place]
    np.testing.assert_array_equal(back, np.where(left_out, -5, ids))
    # Increasing over what is real, and what is padding stands behind all of it.
    steps = np.diff(few.positions, axis=1)
    assert (steps[few.real[:, :]] >= 1).all()
    assert (steps[~few.real] == 0).all()
