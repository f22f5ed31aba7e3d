"""Checkpoints: everything comes back bit for bit, the newest few are kept."""

import jax
import numpy as np
import optax
import pytest
from tiny_task import Experiment, LineTask

from fv_jax.config import to_json
from fv_jax.training.checkpoint import Checkpointer
from fv_jax.training.state import TrainState
from fv_jax.training.step import make_train_step

TASK, TX = LineTask(), optax.adam(0.01)
STEP = make_train_step(TASK.loss, TX, ema_decay=0.9, seed=0)


def fresh(seed=0):
    return TrainState.create(TASK.init(jax.random.key(seed)), TX)


def trained(steps, data):
    state = fresh()
    for _ in range(steps):
        state, _ = STEP(state, next(data))
    return state


@pytest.fixture
def checkpointer(tmp_path):
    made = Checkpointer(tmp_path, keep=2)
    yield made
    made.close()


def test_state_data_and_config_come_back_exactly(tmp_path, checkpointer):
    data = TASK.data()
    state = trained(3, data)
    checkpointer.save(state, data, Experiment())
    expected = [next(data) for _ in range(3)]
    checkpointer.close()
    again = Checkpointer(tmp_path, keep=2)
    other_data = TASK.data()
    next(other_data)
    restored = again.restore(fresh(seed=9), other_data)
    assert again.latest_step() == 3
    assert again.config() == to_json(Experiment())
    again.close()
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for got, want in zip(jax.tree.leaves(restored), jax.tree.leaves(state)):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        np.testing.assert_array_equal(got, want)
    for want in expected:
        np.testing.assert_array_equal(next(other_data)["x"], want["x"])


def test_saving_does_not_disturb_the_data(checkpointer):
    data, plain = TASK.data(), TASK.data()
    state = trained(2, data)
    checkpointer.save(state, data, Experiment())
    for _ in range(2):
        next(plain)
    np.testing.assert_array_equal(next(data)["x"], next(plain)["x"])


def test_an_empty_folder_has_no_checkpoint(checkpointer):
    assert checkpointer.latest_step() is None


def test_the_newest_are_kept_and_a_step_is_saved_once(tmp_path, checkpointer):
    data = TASK.data()
    state = fresh()
    for _ in range(4):
        state, _ = STEP(state, next(data))
        checkpointer.save(state, data, Experiment())
        checkpointer.save(state, data, Experiment())
    checkpointer.close()
    steps = sorted(int(path.name) for path in tmp_path.iterdir() if path.name.isdigit())
    assert steps == [3, 4]
