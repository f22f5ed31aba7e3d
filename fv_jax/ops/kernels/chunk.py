"""RoPE, chunkwise retention and the head norm of a layer by one kernel, with gradients.

Values and gradients are those of `apply_rope`, `retention.chunkwise` and a norm over each head in
turn. Roundings differ: with bfloat16 a product reads q times s^(-1/2), across chunks also times its
decay, and q, k and y are float32 in between.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from fv_jax.ops.kernels import chunk_tpu, distances
from fv_jax.ops.products import accumulator
from fv_jax.ops.retention import LogDecay
from fv_jax.ops.rope import CosSin


def chunkwise(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B T H K"],
    v: Float[Array, "B T H E"],
    log_decay: LogDecay,
    state: Float[Array, "B H K E"],
    start: Int[Array, " B"],
    length: Int[Array, " B"],
    positions: Int[Array, "B T"] | None,
    rope: tuple[CosSin, CosSin],
    *,
    epsilon: float,
    size: int = 128,
    interpret: bool = False,
) -> tuple[Float[Array, "B T H E"], Float[Array, "B H K E"]]:
    """y of a layer after its head norm, in the dtype of v, and the state after the real tokens.

    No gradient reaches `log_decay` and the tables.

    Args:
        q: queries, not turned yet.
        k: keys, neither turned nor scaled yet.
        v / log_decay / state / start / length / positions: see `ops.retention.recurrent`.
        rope: tables of queries and of keys.
        epsilon: of the head norm.
        size: tokens that the kernel takes at once; 128 fill a TPU's matrix unit.
        interpret: run by JAX on any device: slowly, for tests.
    """
    b, t, h, key_dim = q.shape
    dtype = accumulator(q)
    chunks = chunk_tpu.PAIR * -(-t // (chunk_tpu.PAIR * size))
    flat = lambda x: jnp.pad(x.reshape(b, t, -1), ((0, 0), (0, chunks * size - t), (0, 0)))
    gamma = jnp.asarray(log_decay, dtype)
    rows, passed = distances.by_token(gamma, start, length, positions, chunks, size)
    (cos_q, sin_q), (cos_k, sin_k) = rope
    scale = key_dim**-0.5
    turns = jnp.concatenate([cos_q, sin_q, cos_k * scale, sin_k * scale], axis=-1)
    turns = flat(turns.astype(dtype)).swapaxes(1, 2)
    y, after = _retention(
        flat(q), flat(k), flat(v), state.reshape(b, h * key_dim, -1),
        (gamma * math.log2(math.e), passed, rows, turns), size, epsilon, interpret,
    )  # fmt: skip
    return y[:, :t].reshape(v.shape), after.reshape(state.shape)


def fits(heads: int, key_dim: int, value_dim: int) -> bool:
    """Whether heads fill whole lanes of a TPU, so that the kernel can be compiled."""
    together = chunk_tpu.heads_together(heads, key_dim)
    return not together * key_dim % chunk_tpu.LANES and not value_dim % chunk_tpu.LANES


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7))
def _retention(q, k, v, state, constants, size, epsilon, interpret):
    return _retention_forward(q, k, v, state, constants, size, epsilon, interpret)[0]


def _retention_forward(q, k, v, state, constants, size, epsilon, interpret):
    *kept, after = chunk_tpu.forward(
        *constants, q, k, v, state, size=size, epsilon=epsilon, interpret=interpret
    )
    kept = [checkpoint_name(x, "retention") for x in kept]
    return (kept[0], after), (constants, q, k, v, *kept)


def _retention_backward(size, epsilon, interpret, kept, bars):
    constants, *kept = kept
    bars = chunk_tpu.backward(
        *constants, *kept, *bars, size=size, epsilon=epsilon, interpret=interpret
    )
    return *bars, None


_retention.defvjp(_retention_forward, _retention_backward)
