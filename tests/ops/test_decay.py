"""Decays: RetNet's own and those from a memory range, and their powers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fv_jax.ops import decay, reference


def test_gammas_are_retnets():
    gammas = np.exp(decay.log_decays(4))
    np.testing.assert_allclose(gammas, [31 / 32, 63 / 64, 127 / 128, 255 / 256], rtol=1e-15)


def test_a_slow_heads_decay_survives_where_its_gamma_rounds_to_one():
    slowest = decay.log_decays(32)[-1]
    assert np.float32(np.exp(slowest)) == 1
    assert np.float32(slowest) == pytest.approx(-(2.0**-36), rel=1e-6)


def test_memory_range_gives_half_lives_spaced_geometrically():
    half_lives = [decay.half_life(x) for x in decay.log_decays_from_memory(4, 8, 1000)]
    assert half_lives == pytest.approx([8, 40, 200, 1000])


def test_memory_halves_in_a_half_life():
    assert np.exp(12.5 * decay.log_decays_from_memory(1, 12.5, 99)[0]) == pytest.approx(0.5)


def test_powers_are_zero_for_tokens_to_come():
    powers = decay.masked_powers(jnp.log(jnp.array([0.5, 0.9])), jnp.array([-9999, -1, 0, 1, 3]))
    expected = [[0, 0], [0, 0], [1, 1], [0.5, 0.9], [0.125, 0.729]]
    np.testing.assert_allclose(powers, expected, rtol=1e-6)


def test_gradient_of_masked_powers_is_finite_where_the_power_would_overflow():
    distance = jnp.array([-5000, -100, 2])
    gradient = jax.grad(lambda g: decay.masked_powers(g, distance).sum())(jnp.array([-3.0]))
    np.testing.assert_allclose(gradient, [2 * np.exp(-6.0)], rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.2, 31 / 32, 1 - 2.0**-15])
def test_normalizer_is_the_sum_of_all_powers_so_far(gamma):
    positions = [0, 1, 2, 7, 100, 6800, 100_000]
    log_decay = jnp.asarray([np.log1p(gamma - 1)])
    actual = decay.inverse_root_sum(log_decay, jnp.asarray(positions))[:, 0]
    expected = [reference.normalizer(gamma, n) for n in positions]
    np.testing.assert_allclose(actual, expected, rtol=3e-7)
