"""The small layers of a block: bias-free projections, RMSNorm and the gated linear unit.

Statistics of the norms are float32 at least; inputs of matrix products take the config's dtype
(`ops/products.py`; float64 stays float64 throughout, for the tests).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from fv_jax.models.sharding import Axes, gathered
from fv_jax.ops.products import matmul

NORM_EPSILON = 1e-6


def rms_normalize(x: Float[Array, "*b D"], epsilon: float = NORM_EPSILON) -> Float[Array, "*b D"]:
    """x / sqrt(mean(x^2) + eps) over the last axis."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    scale = jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + epsilon)
    return (wide * scale).astype(x.dtype)


class RMSNorm(nnx.Module):
    """RMSNorm with a learned scale."""

    def __init__(self, width: int):
        self.scale = nnx.Param(jnp.ones((width,)), axes=("norm",))

    def __call__(self, x: Float[Array, "*b D"]) -> Float[Array, "*b D"]:
        return rms_normalize(x) * self.scale[...]


class Dense(nnx.Module):
    """x W, no bias. `dtype` is that of the matmul's inputs; the result is float32 or wider."""

    def __init__(
        self, inputs: int, outputs: int, *, dtype: str, gain: float, rngs: nnx.Rngs,
        axes: Axes = (None, None), beside: int = 0,
    ):  # fmt: skip
        """Args:
        axes: names of W's (`models/sharding.py`).
        beside: outputs of other matrices that read the same x, for the scale of random weights.
        """
        bound = gain * (6.0 / (inputs + outputs + beside)) ** 0.5  # Xavier-uniform
        weight = jax.random.uniform(rngs.params(), (inputs, outputs), minval=-bound, maxval=bound)
        self.weight = nnx.Param(weight, axes=axes)
        self.dtype = dtype

    def __call__(self, x: Float[Array, "*b I"]) -> Float[Array, "*b O"]:
        weight = self.weight[...]
        if self.dtype == "bfloat16":
            weight = weight.astype(jnp.bfloat16)  # before it is gathered: half the bytes
        return project(x, gathered(weight, self.weight.get_metadata("axes")), self.dtype)


class Projections(nnx.Module):
    """Several matrices that read the same x, by name; `fused` they are one.

    Apart each result lies by itself, and heads or channels can be cut: for training. For the few
    tokens of a decoding step one matmul is faster: `fuse_params` turns one form into the other.
    """

    def __init__(
        self, inputs: int, outputs: dict[str, int], *, dtype: str, gain: float, axes: Axes,
        rngs: nnx.Rngs, fused: bool = False,
    ):  # fmt: skip
        self.outputs, self.dtype = tuple(outputs.items()), dtype
        total = sum(outputs.values())
        dense = lambda size: Dense(
            inputs, size, dtype=dtype, gain=gain, rngs=rngs, axes=axes, beside=total - size
        )
        if fused:
            self.fused = dense(total)
        else:
            for name, size in outputs.items():
                setattr(self, name, dense(size))

    def __call__(self, x: Float[Array, "*b I"]) -> list[Array]:
        """One result for each name, in the dtype of matmul inputs."""
        cast = lambda y: y.astype(jnp.bfloat16) if self.dtype == "bfloat16" else y
        if hasattr(self, "fused"):
            sizes = [size for _, size in self.outputs]
            edges = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
            return jnp.split(cast(self.fused(x)), edges, axis=-1)
        return [cast(getattr(self, name)(x)) for name, _ in self.outputs]


def fuse_params(params: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """`Projections`' weights (stacked or not) as those of the fused form."""
    weights = [params[name]["weight"] for name in names]
    return {"fused": {"weight": jnp.concatenate(weights, axis=-1)}}


def project(x: Float[Array, "*b I"], weight: Float[Array, "I O"], dtype: str) -> Array:
    """x W with inputs cast down to `dtype` (never up), accumulated in float32 at least."""
    if dtype == "bfloat16":
        return matmul(x.astype(jnp.bfloat16), weight.astype(jnp.bfloat16))
    return matmul(x, weight.astype(x.dtype))


class GatedLinearUnit(nnx.Module):
    """W_down( silu(W_up x) * W_gate x )."""

    NAMES = ("up", "gate")

    def __init__(self, width: int, hidden: int, *, dtype: str, rngs: nnx.Rngs, fused: bool = False):
        self.up_gate = Projections(
            width, dict.fromkeys(self.NAMES, hidden), dtype=dtype, gain=1.0, rngs=rngs,
            axes=("embed", "hidden"), fused=fused,
        )  # fmt: skip
        self.down = Dense(hidden, width, dtype=dtype, gain=0.5, rngs=rngs, axes=("hidden", "embed"))

    def __call__(self, x: Float[Array, "*b D"]) -> Float[Array, "*b D"]:
        up, gate = (checkpoint_name(y, "projection") for y in self.up_gate(x))
        return self.down(jax.nn.silu(up) * gate)
