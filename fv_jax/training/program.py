"""What is compiled of a run, and where its state lies: the same for training and for estimates."""

import dataclasses
import math
from typing import Any

import jax
import optax

from fv_jax.config.training import OptimizerConfig, RunConfig
from fv_jax.models.sharding import Layout
from fv_jax.training.mesh import batch_sharding, check_batch, replicated, state_shardings
from fv_jax.training.optimizer import build_optimizer, build_schedule
from fv_jax.training.state import Params, TrainState
from fv_jax.training.step import StepFn, make_train_step


@dataclasses.dataclass(frozen=True)
class Program:
    """A run's step and state on a layout.

    Attributes:
        layout: devices and rules.
        state: shapes, dtypes and shardings of the state; nothing is allocated.
        step: the jitted step.
    """

    layout: Layout
    state: TrainState
    step: StepFn
    _tx: optax.GradientTransformation
    _task: Any

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(self.state.params))

    @property
    def shardings(self) -> TrainState:
        """Where the state lies."""
        return jax.tree.map(lambda leaf: leaf.sharding, self.state)

    def begin(self, seed: int, start: Params | None) -> TrainState:
        """The state before the first step: made where it lies, never whole on one device."""
        create = lambda params: TrainState.create(params, self._tx)
        if start is None:
            key = jax.random.key(seed)
            make = lambda: create(self._task.init(key))
            return jax.jit(make, out_shardings=self.shardings)()
        start = jax.device_put(start, self.shardings.params)
        return jax.jit(create, out_shardings=self.shardings)(start)

    def compiled(self, batch: Any) -> Any:
        """The step compiled ahead of time for a batch of these shapes."""
        by_row = batch_sharding(self.layout)
        frozen = jax.tree.map(lambda x: _abstract(x, replicated(self.layout)), self._task.frozen)
        placed = jax.tree.map(lambda x: _abstract(x, by_row), batch)
        return self.step.lower(self.state, placed, frozen).compile()  # type: ignore[attr-defined]


def build_program(task: Any, run: RunConfig, optimizer: OptimizerConfig, layout: Layout) -> Program:
    """The program of a task (`loop.Task`).

    Raises:
        ValueError: the batch cannot be shared evenly.
    """
    check_batch(layout, run.batch_size, run.accumulate)
    tx = build_optimizer(optimizer, run.steps)
    make = lambda: TrainState.create(task.init(jax.random.key(run.seed)), tx)
    state = jax.eval_shape(make)
    shardings = state_shardings(layout, state, task.axes(), tx)
    step = make_train_step(
        task.loss, tx, ema_decay=optimizer.ema_decay, seed=run.seed, accumulate=run.accumulate,
        schedule=build_schedule(optimizer, run.steps), layout=layout, shardings=shardings,
    )  # fmt: skip
    return Program(layout, jax.tree.map(_abstract, state, shardings), step, tx, task)


def _abstract(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
