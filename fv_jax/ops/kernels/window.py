"""The retention of a decoding step as kernels: `retention.window` with the head norm, and the fold.

Values are those of the plain forms and so are the roundings, but for the order of sums and for
decays, which are powers of 2 of float32 distances. k and v of the buffer are flat, as they lie.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fv_jax.ops.decay import inverse_root_sum
from fv_jax.ops.kernels import window_gpu, window_tpu
from fv_jax.ops.kernels.distances import NEVER
from fv_jax.ops.products import accumulator
from fv_jax.ops.retention import LogDecay, distances

_BY_PLATFORM = {"gpu": window_gpu, "tpu": window_tpu}
MOST_SLOTS = 256  # of the buffer, and tokens of a window: beyond, a turn is no small program


def window(
    q: Float[Array, "B W H K"],
    k: Float[Array, "B W H K"],
    v: Float[Array, "B W H E"],
    log_decay: LogDecay,
    state: Float[Array, "B H K E"],
    recent_k: Float[Array, "B M keys"],
    recent_v: Float[Array, "B M values"],
    recent_positions: Int[Array, "B M"],
    folded: Int[Array, " B"],
    start: Int[Array, " B"],
    positions: Int[Array, "B W"] | None = None,
    *,
    epsilon: float,
    platform: str,
    interpret: bool = False,
) -> Float[Array, "B W H E"]:
    """y of the next W tokens after the head norm, in the dtype of v.

    Args:
        q / k / v / log_decay / state: see `ops.retention.window`.
        recent_k / recent_v / recent_positions: of M slots, 1 to `MOST_SLOTS`.
        folded / start / positions: see there.
        epsilon: of the head norm.
        platform: whose kernel it is, "gpu" or "tpu".
        interpret: run by JAX on any device: slowly, for tests.
    """
    dtype, tokens = accumulator(q), q.shape[1]
    gamma = jnp.asarray(log_decay, dtype)
    apart = distances(start, jnp.full_like(start, tokens), tokens, tokens, positions)
    at = apart.position[0]
    within = apart.within if positions is None else apart.within[0]
    within = jnp.broadcast_to(within, (len(q), tokens, tokens))
    since = at[..., None] - recent_positions[:, None]
    age = (at - (folded - 1)[:, None])[..., None].astype(dtype)
    scale = jnp.concatenate([inverse_root_sum(gamma, at), age], axis=-1)
    y = _BY_PLATFORM[platform].window(
        _log2(gamma), scale, _masked(within, dtype), _masked(since, dtype), _flat(q), _flat(k),
        _flat(v), _by_key(state), recent_k, recent_v, epsilon=epsilon, interpret=interpret,
    )  # fmt: skip
    return y.reshape(v.shape)


def fold(
    k: Float[Array, "B M keys"],
    v: Float[Array, "B M values"],
    log_decay: LogDecay,
    state: Float[Array, "B H K E"],
    left: Int[Array, "B M"],
    passed: Int[Array, " B"],
    *,
    platform: str,
    interpret: bool = False,
) -> Float[Array, "B H K E"]:
    """`ops.retention.fold_slots` of k and v that are flat."""
    gamma = jnp.asarray(log_decay, accumulator(k))
    left, passed = _masked(left, gamma.dtype)[..., None], passed.astype(gamma.dtype)
    fold = _BY_PLATFORM[platform].fold
    after = fold(_log2(gamma), passed, left, k, v, _by_key(state), interpret=interpret)
    return after.reshape(state.shape)


def _log2(gamma):
    return gamma * math.log2(math.e)


def _masked(distance, dtype):
    return jnp.where(distance >= 0, distance.astype(dtype), NEVER)


def _flat(x):
    return x.reshape(*x.shape[:2], -1)


def _by_key(state):
    b, h, key_dim, value_dim = state.shape
    return state.reshape(b, h * key_dim, value_dim)
