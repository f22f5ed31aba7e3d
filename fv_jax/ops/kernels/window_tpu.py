"""A decoding step's retention as TPU kernels: a window that reads R once, and the fold.

One row is one turn of the grid, all heads; R is read while the row before is worked on, and with
windows of a few tokens that is what the time goes to. Nothing is transposed in memory: k and v lie
as [B, T, H * K] and [B, T, H * E].

    lanes of a group    | head 0 | head 1 |     heads whose keys share 128 lanes
    queries             q 0's  | zeros          W rows of head 0, then W of head 1: one product with
                        zeros  | q 1's          the group's 128 rows of R, or with its keys

Distances, in tokens, are >= 0, or `NEVER` for pairs that do not count.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from fv_jax.ops.kernels.chunk_tpu import VMEM_BYTES, dot, groups
from fv_jax.ops.products import NN, NT, TN, accumulator


def window(
    log2_decay: Float[Array, " H"],
    scale: Float[Array, "B W heads_and_age"],
    within: Float[Array, "B W W"],
    since: Float[Array, "B W M"],
    q: Float[Array, "B W keys"],
    k: Float[Array, "B W keys"],
    v: Float[Array, "B W values"],
    state: Float[Array, "B keys E"],
    recent_k: Float[Array, "B M keys"],
    recent_v: Float[Array, "B M values"],
    *,
    epsilon: float,
    interpret: bool = False,
) -> Float[Array, "B W values"]:
    """y after the head norm, in the dtype of v.

    Args:
        log2_decay: log2 gamma of each head.
        scale: s^(-1/2) of each head, then the distance to the last token that R has seen.
        within: distances between the window's tokens.
        since: distances to those of the buffer.
        q / k / v: of the window; q and k with RoPE, k scaled.
        state: R.
        recent_k / recent_v: of the buffer.
        epsilon: of the head norm.
        interpret: run by JAX instead of a TPU.
    """
    arrays = scale, within, since, q, k, v, state, recent_k, recent_v
    heads = len(log2_decay)
    kernel = functools.partial(_window, heads=heads, epsilon=epsilon)
    return _call(kernel, "retention_window", (log2_decay,), arrays, v, {}, interpret)


def fold(
    log2_decay: Float[Array, " H"],
    passed: Float[Array, " B"],
    left: Float[Array, "B M 1"],
    k: Float[Array, "B M keys"],
    v: Float[Array, "B M values"],
    state: Float[Array, "B keys E"],
    *,
    interpret: bool = False,
) -> Float[Array, "B keys E"]:
    """R with the buffer's tokens, in the place of R.

    Args:
        log2_decay: log2 gamma of each head.
        passed: how far the last token lies behind the last one that R has seen.
        left: how far it lies behind each of the buffer's.
        k / v: of the buffer.
        state: R.
        interpret: run by JAX instead of a TPU.
    """
    arrays, heads = (left, k, v, state), len(log2_decay)
    kernel = functools.partial(_fold, heads=heads)
    aliases = {5: 0}  # R, after the two that are prefetched
    return _call(kernel, "retention_fold", (log2_decay, passed), arrays, state, aliases, interpret)


def _call(kernel, name, scalars, arrays, like, aliases, interpret):
    of_row = lambda x: pl.BlockSpec((1, *x.shape[1:]), lambda b, *_: (b, 0, 0))
    return pl.pallas_call(
        kernel,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=len(scalars),
            grid=(len(like),),
            in_specs=[of_row(x) for x in arrays],
            out_specs=of_row(like),
        ),
        out_shape=jax.ShapeDtypeStruct(like.shape, like.dtype),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel",), vmem_limit_bytes=VMEM_BYTES
        ),
        input_output_aliases=aliases,
        interpret=interpret,
        name=name,
    )(*scalars, *arrays)


def _window(
    decay_ref, scale_ref, within_ref, since_ref, q_ref, k_ref, v_ref, state_ref, recent_k_ref,
    recent_v_ref, y_ref, *, heads, epsilon,
):  # fmt: skip
    tokens, dtype, sums = q_ref.shape[1], q_ref.dtype, state_ref.dtype
    key_dim, value_dim = q_ref.shape[2] // heads, v_ref.shape[2] // heads
    scale, within, since = scale_ref[0], within_ref[0], since_ref[0]
    age = jnp.broadcast_to(scale[:, heads:], (tokens, value_dim))
    for lanes, group in groups(heads, key_dim):
        q = q_ref[0, :, lanes].astype(sums)
        lane = jax.lax.broadcasted_iota(jnp.int32, q.shape, 1)
        alone = [jnp.where((lane >= own.start) & (lane < own.stop), q, 0) for _, own in group]
        q = jnp.concatenate(alone, axis=0).astype(dtype)
        before = dot(q, state_ref[0, lanes].astype(dtype), NN)
        new, old = (_scores(q, ref[0, :, lanes]) for ref in (k_ref, recent_k_ref))
        for i, (head, _) in enumerate(group):
            gamma, values = decay_ref[head], slice(head * value_dim, (head + 1) * value_dim)
            own = slice(i * tokens, (i + 1) * tokens)
            y = before[own] * jnp.exp2(age * gamma)
            for scores, apart, ref in ((new, within, v_ref), (old, since, recent_v_ref)):
                weights = (scores[own] * jnp.exp2(apart * gamma)).astype(dtype)
                y = y + _sum(weights, ref[0, :, values])
            y = y * scale[:, head : head + 1]
            root = jax.lax.rsqrt(jnp.mean(y * y, axis=1, keepdims=True) + epsilon)
            y_ref[0, :, values] = (y * root).astype(y_ref.dtype)


def _fold(decay_ref, passed_ref, left_ref, k_ref, v_ref, state_ref, after_ref, *, heads):
    row, dtype, sums = pl.program_id(0), k_ref.dtype, state_ref.dtype
    key_dim, value_dim = k_ref.shape[2] // heads, v_ref.shape[2] // heads
    for lanes, group in groups(heads, key_dim):
        k = k_ref[0, :, lanes].astype(sums)
        left = jnp.broadcast_to(left_ref[0], k.shape)
        for head, own in group:
            gamma, values = decay_ref[head], slice(head * value_dim, (head + 1) * value_dim)
            added = dot((k * jnp.exp2(left * gamma)).astype(dtype), v_ref[0, :, values], TN)
            keys = pl.ds(head * key_dim, key_dim)
            passed = jnp.exp2(jnp.full((1, value_dim), gamma * passed_ref[row]))
            after_ref[0, keys] = state_ref[0, keys] * passed + added[own]


# A single key or value is no matrix product: the compiler has none, and it needs none.
def _scores(q, k):
    if len(k) > 1:
        return dot(q, k, NT)
    q, k = (x.astype(accumulator(x)) for x in (q, k))
    return jnp.sum(q * k, axis=1, keepdims=True)


def _sum(weights, v):
    if len(v) > 1:
        return dot(weights, v, NN)
    weights, v = (x.astype(accumulator(x)) for x in (weights, v))
    return weights * v
