"""One training step: a pure function of (state, batch), jitted, state donated.

No device or host value is named here: a layout says where things lie, and the same function runs
on one device or on a thousand.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fv_jax.models import sharding
from fv_jax.models.sharding import Layout
from fv_jax.training.mesh import replicated
from fv_jax.training.state import Params, TrainState

LossFn = Callable[[Any, Any, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]
StepFn = Callable[..., tuple[TrainState, dict[str, jax.Array]]]


def make_train_step(
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    *,
    ema_decay: float,
    seed: int,
    accumulate: int = 1,
    schedule: optax.Schedule | None = None,
    layout: Layout | None = None,
    shardings: TrainState | None = None,
) -> StepFn:
    """The jitted step: (state, batch, frozen={}) -> (state, metrics).

    A step whose loss or gradient is not finite changes nothing but `step` and `skipped`.

    Args:
        loss_fn: (params, batch, key) -> (scalar loss, metrics). If the loss is a mean over things
            of which a batch has more or fewer, `metrics["weight"]` is their number.
        tx: the optimizer.
        ema_decay: memory of the averaged weights; lower in the first steps, where the average would
            otherwise remember the first weights.
        seed: randomness of step n is `fold_in(key(seed), n)`, so a resumed run repeats it.
        accumulate: parts that a batch is cut into, one after the other, to save memory.
        schedule: the learning rate by step, for the metrics.
        layout: devices and rules, for the models' logical axes.
        shardings: where the new state lies.

    `frozen` of the step is joined to the batch: what the loss reads and nobody trains.
    """

    def gradients(params: Params, batch: Any, frozen: dict[str, Any], key: jax.Array):
        """Weighted sums over a part of a batch: (weight, loss, metrics, gradients)."""

        def loss(params):
            value, metrics = loss_fn(params, {**batch, **frozen} if frozen else batch, key)
            metrics = dict(metrics)
            weight = metrics.pop("weight", jnp.ones((), value.dtype))
            return value * weight, (weight, jax.tree.map(lambda x: x * weight, metrics))

        (value, (weight, metrics)), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return weight, value, metrics, grads

    def train_step(state: TrainState, batch: Any, frozen: dict[str, Any] | None = None):
        frozen = frozen or {}
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        if accumulate == 1:
            sums = gradients(state.params, batch, frozen, key)
        else:
            sums = _summed(
                lambda part, key: gradients(state.params, part, frozen, key),
                _parts(batch, accumulate),
                jax.random.split(key, accumulate),
            )
        weight, *sums = sums
        loss, metrics, grads = jax.tree.map(lambda x: x / jnp.maximum(weight, 1e-30), sums)
        norm = optax.global_norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
        ema = jax.tree.map(lambda e, p: e * decay + p * (1 - decay), state.ema, params)
        keep = lambda new, old: jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)
        params = keep(params, state.params)
        new = TrainState(
            step=state.step + 1,
            params=params,
            ema=keep(ema, state.ema),
            opt_state=keep(opt_state, state.opt_state),
            skipped=state.skipped + ~finite,
        )
        metrics = {
            "loss": loss,
            "gradient_norm": norm,
            "parameter_norm": optax.global_norm(params),
            "skipped": new.skipped,
            **metrics,
        }
        if schedule is not None:
            metrics["learning_rate"] = schedule(state.step - state.skipped)
        return new, metrics

    def placed(state: TrainState, batch: Any, frozen: dict[str, Any] | None = None):
        with sharding.using(layout) if layout else contextlib.nullcontext():
            return train_step(state, batch, frozen)

    if layout is None or shardings is None:
        return jax.jit(placed, donate_argnums=0)
    return jax.jit(placed, donate_argnums=0, out_shardings=(shardings, replicated(layout)))


def _parts(batch: Any, count: int) -> Any:
    """Rows i, i + count, .. of every array: [count, rows / count, ..].

    Strided, so that every device that holds some rows of the batch holds some of each part.
    """
    split = lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1)
    return jax.tree.map(split, batch)


def _summed(function: Callable, parts: Any, keys: jax.Array) -> Any:
    first = jax.tree.map(lambda x: x[0], parts)
    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, first, keys[0])
    )
    add = lambda sums, part: (jax.tree.map(jnp.add, sums, function(*part)), None)
    return jax.lax.scan(add, zeros, (parts, keys))[0]
