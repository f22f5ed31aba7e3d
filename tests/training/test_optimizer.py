"""Adam with warm-up, cosine, clipping and weight decay on matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fv_jax.config.training import OptimizerConfig
from fv_jax.training.optimizer import build_optimizer, build_schedule

PARAMS = {"matrix": jnp.full((2, 3), 2.0), "vector": jnp.full((3,), 2.0)}


def first_update(gradient, **changes):
    config = OptimizerConfig(learning_rate=0.1, warmup_steps=0, **changes)
    tx = build_optimizer(config, 100)
    return tx.update(gradient, tx.init(PARAMS), PARAMS)[0]


def test_the_rate_rises_from_zero_to_its_peak_and_falls_to_its_end():
    config = OptimizerConfig(learning_rate=2e-3, final_learning_rate=1e-4, warmup_steps=10)
    rates = np.asarray([float(build_schedule(config, 100)(step)) for step in range(101)])
    np.testing.assert_allclose(rates[:11], np.arange(11) * 2e-4, rtol=1e-5, atol=1e-12)
    assert (np.diff(rates[10:]) < 0).all()
    assert rates[55] == pytest.approx((2e-3 + 1e-4) / 2, rel=1e-4)  # half way down the cosine
    assert rates[100] == pytest.approx(1e-4)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_runs_shorter_than_the_warm_up_have_a_rate_at_every_step(steps):
    schedule = build_schedule(OptimizerConfig(warmup_steps=200), steps)
    rates = np.asarray([float(schedule(step)) for step in range(steps)])
    assert np.isfinite(rates).all()
    assert rates[-1] > 0


def test_the_gradients_global_norm_is_clipped():
    gradient = jax.tree.map(lambda x: jnp.arange(1.0, x.size + 1).reshape(x.shape), PARAMS)
    norm = float(jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient))))
    tx = build_optimizer(OptimizerConfig(clip_norm=1.0), 100)

    def state_after(scale):  # Adam's moments hold the gradient that it was given
        scaled = jax.tree.map(lambda g: g * scale, gradient)
        return tx.update(scaled, tx.init(PARAMS), PARAMS)[1]

    clipped, plain = state_after(1000 / norm), state_after(1 / norm)
    for a, b in zip(jax.tree.leaves(clipped), jax.tree.leaves(plain)):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_the_first_step_is_adams():
    gradient = jax.tree.map(lambda x: jnp.full_like(x, 0.01), PARAMS)
    update = first_update(gradient, weight_decay=0.0)
    # Both moments are corrected for their start, so the step is the rate itself.
    for leaf in jax.tree.leaves(update):
        np.testing.assert_allclose(leaf, -0.1, rtol=1e-4)


def test_weight_decay_is_decoupled_and_on_matrices_only():
    update = first_update(jax.tree.map(jnp.zeros_like, PARAMS), weight_decay=0.5)
    np.testing.assert_allclose(update["matrix"], -0.1 * 0.5 * 2.0, rtol=1e-6)
    np.testing.assert_array_equal(update["vector"], 0)
