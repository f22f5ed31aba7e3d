"""One step: the optimizer's update, the running average, randomness from the step's number."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tiny_task import LineTask

from fv_jax.training.state import TrainState
from fv_jax.training.step import make_train_step

TASK = LineTask()
TX = optax.adam(0.01)


def fresh(seed=0):
    return TrainState.create(TASK.init(jax.random.key(seed)), TX)


def batch(index=0):
    data = TASK.data()
    return [next(data) for _ in range(index + 1)][-1]


@functools.cache
def train_step(seed=0, ema_decay=0.9):
    return make_train_step(TASK.loss, TX, ema_decay=ema_decay, seed=seed)


def assert_trees_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_step_is_the_optimizers_update():
    params, key = TASK.init(jax.random.key(0)), jax.random.fold_in(jax.random.key(0), 0)
    (loss, _), gradient = jax.value_and_grad(TASK.loss, has_aux=True)(params, batch(), key)
    updates, _ = TX.update(gradient, TX.init(params), params)
    expected = optax.apply_updates(params, updates)
    state, metrics = train_step()(fresh(), batch())
    assert int(state.step) == 1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state.params, expected)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["gradient_norm"], optax.global_norm(gradient), rtol=1e-5)
    assert "largest" in metrics


def test_the_average_follows_the_weights_slowly_but_not_in_the_first_steps():
    state = fresh()
    decays = [min(0.3, (1 + step) / (10 + step)) for step in range(12)]
    assert decays[0] == 0.1
    assert decays[-1] == 0.3
    for step, decay in enumerate(decays):
        before = np.asarray(state.ema["layer"]["w"], np.float64)
        state, _ = train_step(ema_decay=0.3)(state, batch(step))
        expected = before * decay + np.asarray(state.params["layer"]["w"]) * (1 - decay)
        np.testing.assert_allclose(state.ema["layer"]["w"], expected, rtol=1e-5)


def test_the_same_step_repeats_and_other_steps_and_seeds_draw_other_noise():
    losses = {}
    for name, step, seed in [("a", 0, 0), ("same", 0, 0), ("later", 5, 0), ("seed", 0, 1)]:
        state = fresh().replace(step=jnp.asarray(step, jnp.int32))
        losses[name] = float(train_step(seed)(state, batch())[1]["loss"])
    assert losses["a"] == losses["same"]
    assert len(set(losses.values())) == 3


def test_the_state_is_donated_and_the_average_has_buffers_of_its_own():
    state = fresh()
    after, _ = train_step()(state, batch())
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(after))


def test_one_trace_serves_all_steps():
    traces = []

    def loss(params, batch, key):
        traces.append(1)
        return TASK.loss(params, batch, key)

    step, state = make_train_step(loss, TX, ema_decay=0.9, seed=0), fresh()
    for i in range(4):
        state, _ = step(state, batch(i))
    assert len(traces) == 1


def test_training_fits_the_line():
    step, state = make_train_step(TASK.loss, optax.adam(0.1), ema_decay=0.9, seed=0), fresh()
    data, losses = TASK.data(), []
    for _ in range(200):
        state, metrics = step(state, next(data))
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-10:]) < 0.01 * np.mean(losses[:10])
