"""The small layers of a block: bias-free projections, RMSNorm and the gated linear unit.

Statistics of the norms are float32 at least; matmul inputs take the config's dtype and
accumulate in float32 (float64 stays float64 throughout, for the tests).
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

NORM_EPSILON = 1e-6


def rms_normalise(x: Float[Array, "*b D"], epsilon: float = NORM_EPSILON) -> Float[Array, "*b D"]:
    """x / sqrt(mean(x^2) + eps) over the last axis."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    scale = jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + epsilon)
    return (wide * scale).astype(x.dtype)


class RMSNorm(nnx.Module):
    """RMSNorm with a learnt scale."""

    def __init__(self, width: int):
        self.scale = nnx.Param(jnp.ones((width,)))

    def __call__(self, x: Float[Array, "*b D"]) -> Float[Array, "*b D"]:
        return rms_normalise(x) * self.scale[...]


class Dense(nnx.Module):
    """x W, no bias. `dtype` is that of the matmul's inputs; the result has x's dtype."""

    def __init__(self, inputs: int, outputs: int, *, dtype: str, gain: float, rngs: nnx.Rngs):
        bound = gain * (6.0 / (inputs + outputs)) ** 0.5  # Xavier-uniform
        shape = (inputs, outputs)
        self.weight = nnx.Param(
            jax.random.uniform(rngs.params(), shape, minval=-bound, maxval=bound)
        )
        self.dtype = dtype

    def __call__(self, x: Float[Array, "*b I"]) -> Float[Array, "*b O"]:
        return matmul(x, self.weight[...], self.dtype)


def matmul(x: Float[Array, "*b I"], weight: Float[Array, "I O"], dtype: str) -> Array:
    """x W with inputs cast down to `dtype` (never up), accumulated in x's dtype."""
    if dtype == "bfloat16":
        x_cast, weight_cast = x.astype(jnp.bfloat16), weight.astype(jnp.bfloat16)
    else:
        x_cast, weight_cast = x, weight.astype(x.dtype)
    return jnp.matmul(x_cast, weight_cast, preferred_element_type=x.dtype)


class GatedLinearUnit(nnx.Module):
    """W_down( silu(W_up x) * W_gate x ); up and gate are one matmul."""

    def __init__(self, width: int, hidden: int, *, dtype: str, rngs: nnx.Rngs):
        self.up_gate = Dense(width, 2 * hidden, dtype=dtype, gain=1.0, rngs=rngs)
        self.down = Dense(hidden, width, dtype=dtype, gain=0.5, rngs=rngs)

    def __call__(self, x: Float[Array, "*b D"]) -> Float[Array, "*b D"]:
        up, gate = jnp.split(self.up_gate(x), 2, axis=-1)
        return self.down(jax.nn.silu(up) * gate)
