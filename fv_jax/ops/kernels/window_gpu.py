"""A decoding step's retention as GPU kernels: a window that reads R once, and the fold.

A program is one row and one head; its 32 KB of R (64 keys, 128 values) are read once. A matrix unit
takes 16 rows at least, so windows and buffers are filled up to a power of 2 with zeros as they are
read; nothing is padded in memory. Distances, in tokens, are >= 0, or `NEVER` for pairs that do not
count.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float

from fv_jax.ops.kernels.chunk_gpu import LEAST, dot
from fv_jax.ops.products import NN, NT, TN


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
    """As `window_tpu.window`."""
    heads, tokens, slots = len(log2_decay), *since.shape[1:]
    kernel = functools.partial(
        _window, tokens=tokens, slots=slots, heads=heads, epsilon=epsilon, interpret=interpret
    )
    specs = [
        pl.BlockSpec((heads,), lambda h, b: (0,)),
        *(_of_row(*x) for x in ((tokens, heads + 1), (tokens, _filled(tokens)))),
        _of_row(tokens, _filled(slots)),
        *(_of_head(x, heads) for x in (q, k, v)),
        _of_state(state, heads),
        *(_of_head(x, heads) for x in (recent_k, recent_v)),
    ]
    return _call(kernel, heads, specs, _of_head(v, heads), v, {}, interpret)(
        log2_decay, scale, within, since, q, k, v, state, recent_k, recent_v
    )


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
    """As `window_tpu.fold`."""
    heads, slots = len(log2_decay), k.shape[1]
    specs = [
        pl.BlockSpec((heads,), lambda h, b: (0,)),
        pl.BlockSpec((len(passed),), lambda h, b: (0,)),
        _of_row(slots, 1),
        *(_of_head(x, heads) for x in (k, v)),
        _of_state(state, heads),
    ]
    kernel = functools.partial(_fold, slots=slots, interpret=interpret)
    return _call(kernel, heads, specs, specs[-1], state, {5: 0}, interpret)(
        log2_decay, passed, left, k, v, state
    )


def _filled(count: int) -> int:
    return max(LEAST, pl.next_power_of_2(count))


def _of_row(tokens: int, width: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, _filled(tokens), width), lambda h, b: (b, 0, 0))


def _of_head(x, heads: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, _filled(x.shape[1]), x.shape[2] // heads), lambda h, b: (b, 0, h))


def _of_state(state, heads: int) -> pl.BlockSpec:
    keys, values = state.shape[1:]
    return pl.BlockSpec((None, keys // heads, values), lambda h, b: (b, h, 0))


def _call(kernel, heads, inputs, output, like, aliases, interpret):
    return pl.pallas_call(
        kernel,
        grid=(heads, len(like)),
        in_specs=inputs,
        out_specs=output,
        out_shape=jax.ShapeDtypeStruct(like.shape, like.dtype),
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=1),
        input_output_aliases=aliases,
        interpret=interpret,
        name="retention" + kernel.func.__name__,
    )


def _window(
    decay_ref, scale_ref, within_ref, since_ref, q_ref, k_ref, v_ref, state_ref, recent_k_ref,
    recent_v_ref, y_ref, *, tokens, slots, heads, epsilon, interpret,
):  # fmt: skip
    head = pl.program_id(0)
    gamma, dtype = decay_ref[head], q_ref.dtype
    product = functools.partial(dot, interpret=interpret)
    column = lambda n: _rows(scale_ref.at[:, pl.ds(n, 1)], tokens)
    q = _rows(q_ref, tokens)
    y = product(q, state_ref[...].astype(dtype), NN) * jnp.exp2(column(heads) * gamma)
    for count, apart_ref, own_k, own_v in (
        (tokens, within_ref, k_ref, v_ref), (slots, since_ref, recent_k_ref, recent_v_ref),
    ):  # fmt: skip
        both = _real(apart_ref, tokens)[:, None] & (jnp.arange(apart_ref.shape[1]) < count)[None]
        apart = triton.load(apart_ref, mask=both, other=0)
        scores = product(q, _rows(own_k, count), NT) * jnp.exp2(apart * gamma)
        y = y + product(scores.astype(dtype), _rows(own_v, count), NN)
    y = y * column(head)
    root = jax.lax.rsqrt(jnp.mean(y * y, axis=1, keepdims=True) + epsilon)
    mask = _real(y_ref, tokens)[:, None]
    triton.store(y_ref, (y * root).astype(y_ref.dtype), mask=mask)


def _fold(decay_ref, passed_ref, left_ref, k_ref, v_ref, state_ref, after_ref, *, slots, interpret):
    gamma = decay_ref[pl.program_id(0)]
    k = _rows(k_ref, slots)
    kept = (k * jnp.exp2(_rows(left_ref, slots) * gamma)).astype(k.dtype)
    passed = jnp.exp2(passed_ref[pl.program_id(1)] * gamma)
    added = dot(kept, _rows(v_ref, slots), TN, interpret=interpret)
    after_ref[...] = state_ref[...] * passed + added


def _real(ref, count: int):
    return jnp.arange(ref.shape[0]) < count


def _rows(ref, count: int):
    """The first `count` rows, zeros after them."""
    return triton.load(ref, mask=_real(ref, count)[:, None], other=0)
