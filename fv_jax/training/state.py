"""What training carries from step to step."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

Params = Any  # a nested dict of arrays: `nnx.to_pure_dict(nnx.state(model, nnx.Param))`


@struct.dataclass
class TrainState:
    """A pytree; donated to every step.

    Attributes:
        step: steps taken so far, int32 scalar.
        params: weights being trained, float32.
        ema: their running average, which is what gets evaluated and exported.
        opt_state: optax state.
        skipped: steps among them that changed nothing, since their loss or gradient was not
            finite; int32 scalar.
    """

    step: Any
    params: Params
    ema: Params
    opt_state: optax.OptState
    skipped: Any

    @classmethod
    def create(cls, params: Params, tx: optax.GradientTransformation) -> "TrainState":
        """The state before the first step. `ema` gets its own buffers (both are donated)."""
        ema = jax.tree.map(jnp.copy, params)
        zero = lambda: jnp.zeros((), jnp.int32)
        return cls(zero(), params, ema, tx.init(params), zero())
