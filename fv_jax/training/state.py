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
        params: weights being trained.
        ema: their running average, which is what gets evaluated and exported.
        opt_state: optax state.
    """

    step: Any
    params: Params
    ema: Params
    opt_state: optax.OptState

    @classmethod
    def create(cls, params: Params, tx: optax.GradientTransformation) -> "TrainState":
        """The state before the first step. `ema` gets its own buffers (both are donated)."""
        ema = jax.tree.map(jnp.copy, params)
        return cls(jnp.zeros((), jnp.int32), params, ema, tx.init(params))
