"""What a layer does between its projections: RoPE, retention, the norm of every head; by what."""

import functools
from collections.abc import Callable

from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from fv_jax.models import sharding
from fv_jax.models.layers import NORM_EPSILON, rms_normalize
from fv_jax.ops.kernels import chunk, chunk_gpu
from fv_jax.ops.rope import CosSin, apply_rope

Rope = tuple[CosSin, CosSin]  # tables of queries, of keys


def turn(
    q: Float[Array, "B T H K"], k: Float[Array, "B T H K"], rope: Rope
) -> tuple[Float[Array, "B T H K"], Float[Array, "B T H K"]]:
    """q and k with RoPE, k scaled by K^(-1/2), in the dtypes that they come in."""
    turned = apply_rope(q, rope[0]), apply_rope(k, rope[1]) * k.shape[-1] ** -0.5
    q, k = (checkpoint_name(new.astype(old.dtype), "retention") for new, old in zip(turned, (q, k)))
    return q, k


def in_steps(form: Callable) -> Callable:
    """A form of retention (`retention.FORMS`) that turns q and k first, and normalizes heads last.

    The result is called like the form, with `rope` as one more argument.
    """

    def turned_and_normalized(q, k, v, log_decay, state, start, length, positions, rope):
        q, k = turn(q, k, rope)
        y, after = form(q, k, v, log_decay, state, start, length, positions=positions)
        return rms_normalize(checkpoint_name(y.astype(v.dtype), "retention")), after

    return turned_and_normalized


def kernels_of(rows: int, heads: int, key_dim: int, value_dim: int) -> str | None:
    """The platform, "gpu" or "tpu", if its kernels for retention take what a device holds."""
    layout = sharding.current()
    parts = (layout.parts("rows"), layout.parts("heads")) if layout else (1, 1)
    if rows % parts[0] or heads % parts[1]:
        return None
    platform, shape = sharding.platform(), (heads // parts[1], key_dim, value_dim)
    fits = {"gpu": chunk_gpu.fits, "tpu": chunk.fits}
    return platform if platform in fits and fits[platform](*shape) else None


def form_of_kernel(platform: str) -> Callable:
    """A platform's chunkwise form of a layer as a kernel, called like one of `in_steps`."""
    if platform == "gpu":
        return in_steps(chunk_gpu.chunkwise)
    return functools.partial(chunk.chunkwise, epsilon=NORM_EPSILON)
