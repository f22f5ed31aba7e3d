"""Rotary positions: exact tables, and scores that know distances only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fv_jax.ops import reference
from fv_jax.ops.rope import (
    MAX_POSITION,
    angles,
    apply_rope_interleaved,
    cos_sin,
    even_angles,
)

K = 8
# Around the places where the coarse table takes its next step, and at the very end.
POSITIONS = (0, 1, 511, 1023, 1024, 1025, 2047, 2048, 6800, 65_535, 65_536, MAX_POSITION - 1)


def cos_and_sin(positions, dtype):
    """What RoPE turns the unit vectors of every pair into."""
    even = jnp.tile(jnp.asarray([1.0, 0.0], dtype), (1, len(positions), 1, K // 2))
    turned = np.asarray(apply_rope_interleaved(even, jnp.asarray([positions])))[0, :, 0]
    return turned[:, 0::2], turned[:, 1::2]


def test_angles_run_from_one_radian_to_a_ten_thousandth():
    theta = angles(K)
    np.testing.assert_allclose(theta, 10.0 ** np.array([0, -4 / 3, -8 / 3, -4]), rtol=1e-14)


def test_float32_tables_are_right_to_rounding_at_every_position():
    phase = np.outer(POSITIONS, angles(K))
    cos, sin = cos_and_sin(POSITIONS, jnp.float32)
    # Two products and a sum of numbers up to 1: 3 roundings of 2^-24.
    np.testing.assert_allclose(cos, np.cos(phase), rtol=0, atol=3 * 2**-24)
    np.testing.assert_allclose(sin, np.sin(phase), rtol=0, atol=3 * 2**-24)


@pytest.mark.usefixtures("x64")
def test_float64_tables_are_right_to_the_phases_own_rounding():
    phase = np.outer(POSITIONS, angles(K))
    cos, sin = cos_and_sin(POSITIONS, jnp.float64)
    atol = 1e-15 + 2**-52 * phase  # the phase itself has 53 bits
    assert (np.abs(cos - np.cos(phase)) <= atol).all()
    assert (np.abs(sin - np.sin(phase)) <= atol).all()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("start", [0, 1000, 70_000])
def test_rotation_is_the_oracles(start):
    x = np.random.default_rng(0).normal(size=(50, K))
    position = start + jnp.arange(50)[None]
    actual = apply_rope_interleaved(jnp.asarray(x)[None, :, None], position)
    np.testing.assert_allclose(actual[0, :, 0], reference.rotate(x, start), rtol=0, atol=1e-10)


def test_rotation_keeps_the_length_of_every_pair():
    x = jax.random.normal(jax.random.key(0), (1, len(POSITIONS), 3, K))
    pairs = lambda y: np.hypot(y[..., 0::2], y[..., 1::2])
    turned = apply_rope_interleaved(x, jnp.asarray([POSITIONS]))
    np.testing.assert_allclose(pairs(turned), pairs(x), rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_scores_depend_on_the_distance_only():
    rng = np.random.default_rng(0)
    q, k = (jnp.asarray(rng.normal(size=(1, 1, 1, K))) for _ in range(2))

    def score(n, m):
        at = lambda x, position: apply_rope_interleaved(x, jnp.asarray([[position]]))
        return float(jnp.sum(at(q, n) * at(k, m)))

    for distance in (0, 1, 77, 5000):
        scores = [score(m + distance, m) for m in (0, 1, 1023, 1024, 60_000)]
        np.testing.assert_allclose(scores, scores[0], rtol=0, atol=1e-10)
    assert abs(score(78, 0) - score(77, 0)) > 1e-3


def test_even_angles_tell_a_distance_from_its_neighbors_and_keep_two_pairs_for_any():
    theta = even_angles(32)
    assert theta.shape == (16,)
    kernel = lambda part: np.cos(np.outer(np.arange(28), part)).mean(-1)
    np.testing.assert_allclose(kernel(theta[:-2]), np.arange(28) == 0, atol=1e-12)
    again = np.cos(np.outer([28, 56], theta[:-2])).mean(-1)  # the sum comes back
    np.testing.assert_allclose(again, [-1, 1], atol=1e-12)
    assert (np.cos(np.outer(np.arange(385), theta[-2:])) > 0.9).all()
    # One token away, RetNet's own angles hardly tell the difference.
    assert kernel(angles(32))[1] > 0.9


@pytest.mark.parametrize("key_dim", [4, 9])
def test_even_angles_need_three_pairs(key_dim):
    with pytest.raises(ValueError, match=f"even key_dim >= 6, got {key_dim}"):
        even_angles(key_dim)


@pytest.mark.parametrize("key_dim", [1, 2, 7])
def test_channels_that_make_no_two_pairs_are_refused(key_dim):
    with pytest.raises(ValueError, match=f"must be even and >= 4, got {key_dim}"):
        angles(key_dim)


@pytest.mark.parametrize("place", [-1, MAX_POSITION, MAX_POSITION + 5, 2**31 - 1])
def test_a_position_beyond_the_tables_is_no_number_and_no_other_place(place):
    position = jnp.asarray([[0, place, MAX_POSITION - 1]])
    for table in jax.jit(lambda p: cos_sin(p, angles(8), jnp.float32))(position):
        assert np.isnan(table).all(axis=-1).tolist() == [[False, True, False]]
