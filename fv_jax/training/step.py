"""One training step: a pure function of (state, batch), jitted, state donated.

No mesh, device or host value is named here, so the same function is sharded by placing its
inputs.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fv_jax.training.state import TrainState

LossFn = Callable[[Any, Any, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]
StepFn = Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]


def make_train_step(
    loss_fn: LossFn, tx: optax.GradientTransformation, *, ema_decay: float, seed: int
) -> StepFn:
    """The jitted step.

    Args:
        loss_fn: (params, batch, key) -> (scalar loss, metrics).
        tx: the optimizer.
        ema_decay: of the averaged weights; lower in the first steps, where the average would
            otherwise remember the initialisation.
        seed: randomness of step n is `fold_in(key(seed), n)`, so a resumed run repeats it.
    """

    def train_step(state: TrainState, batch: Any):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params, batch, key)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
        ema = jax.tree.map(lambda e, p: e * decay + p * (1 - decay), state.ema, params)
        metrics = {"loss": loss, "gradient_norm": optax.global_norm(grads), **metrics}
        return TrainState(state.step + 1, params, ema, opt_state), metrics

    return jax.jit(train_step, donate_argnums=0)
