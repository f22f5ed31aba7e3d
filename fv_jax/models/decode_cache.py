"""The lazy state: the newest tokens' k and v beside R, folded into R once in a while.

    window   hidden vectors of the next W tokens; reads the state, writes nothing
    append   all W (k, v) pairs go into the buffer; the first n of them count, per row
    fold     empty the buffer into R; due when there is no room for W more
    commit   append, and fold when it is due
    settle   the plain state

    R: all tokens up to here |  buffer: M slots                |  window: W
    [ ......................]|[ k,v  k,v   x    k,v   x    -  - ]|[ t t t ]

Slots of rejected tokens (x) mean nothing. So all rows write at the same place, which a TPU does in
one piece; places of their own are written row by row there, four fifths of a step of 64 rows.

With M slots decoding writes R once per M tokens instead of at each: per layer and row, R is read
at every token (K E H floats) and the buffer (up to M (K + E) H floats) is small beside it. With
M = 0 a window's tokens go into R at once, which costs less where R lies in a cache.

Layers are kept apart, not stacked: a loop that cuts each layer's weights and state out of a stack
copies all of them at every step.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from fv_jax.models import sharding
from fv_jax.models.heads import kernels_of, turn
from fv_jax.models.layers import NORM_EPSILON, rms_normalize
from fv_jax.models.retnet import Decoder, RetNet, RetNetState, log_decays, places_of_tokens
from fv_jax.models.tables import Leaf
from fv_jax.ops import retention
from fv_jax.ops.kernels import window as kernels

KeysValues = tuple[tuple[Any, Any], ...]  # of L layers, k [B, W, H * K] and v [B, W, H * E]


@struct.dataclass
class LazyState:
    """What the network remembers, the newest tokens apart.

    Attributes:
        retention: R of L layers, without the buffered tokens, [B, H, K, E] each.
        recent: k (with RoPE, scaled) and v of L layers, [B, M, H * K] and [B, M, H * E] each.
        recent_positions: where their tokens stand, [B, M] int32; `retention.NEVER` in slots that
            mean nothing.
        count: slots that are used, of every row, int32.
        folded: the position after the last token that R has seen, [B] int32.
        position: the same with the buffered ones, [B] int32.
    """

    retention: tuple[Leaf, ...]
    recent: tuple[tuple[Leaf, Leaf], ...]
    recent_positions: Leaf
    count: Leaf
    folded: Leaf
    position: Leaf

    @property
    def capacity(self) -> int:
        """M: slots of the buffer."""
        return self.recent[0][0].shape[1]


def begin(model: RetNet, state: RetNetState, capacity: int) -> LazyState:
    """A lazy state with an empty buffer of `capacity` slots.

    Raises:
        ValueError: a negative capacity, or a state that is not one of the model's.
    """
    if capacity < 0:
        raise ValueError(f"the buffer's capacity must be >= 0, got {capacity}")
    model.check(jnp.zeros((state.position.shape[0], 1), jnp.int32), state)
    c, rows = model.config, state.position.shape[0]
    low = state.retention.dtype == jnp.float32 and c.matmul_dtype == "bfloat16"
    dtype = jnp.bfloat16 if low else state.retention.dtype
    slots = lambda width: jnp.zeros((rows, capacity, c.heads * width), dtype)
    return LazyState(
        tuple(state.retention),
        tuple((slots(c.key_dim), slots(c.value_dim)) for _ in range(c.layers)),
        jnp.full((rows, capacity), retention.NEVER, jnp.int32),
        jnp.zeros((), jnp.int32),
        state.position,
        state.position,
    )


def window(
    decoder: Decoder,
    tokens: Int[Array, "B W"],
    state: LazyState,
    positions: Int[Array, "B tokens_and_next"] | None = None,
    nearby: Int[Array, "B W nearby"] | None = None,
) -> tuple[Float[Array, "B W D"], KeysValues]:
    """Hidden vectors of the next W tokens, and their k and v for `append` or `commit`.

    `positions` and `nearby` are those of `RetNet.chunkwise`.
    """
    at, told, rope = places_of_tokens(
        decoder.config, state.position, tokens.shape[1], decoder.tables.embedding.dtype, positions
    )
    gaps = None if positions is None else at
    x, keys_values = decoder.tables.embed(tokens, told, nearby), []
    form = _plain_window
    if platform := _kernels_of(decoder.config, state):
        form = functools.partial(kernels.window, epsilon=NORM_EPSILON, platform=platform)
    for block, r, (keys, values) in zip(decoder.blocks, state.retention, state.recent):

        def retain(q, k, v, log_decay, r=r, keys=keys, values=values):
            q, k = turn(q, k, rope)
            y = form(
                q, k, v, log_decay, r, keys, values, state.recent_positions, state.folded,
                state.position, gaps,
            )  # fmt: skip
            return y, (_flat(k), _flat(v))

        x, new = block(x, retain)
        keys_values.append(new)
    return decoder.norm(x), tuple(keys_values)


def append(
    state: LazyState,
    keys_values: KeysValues,
    length: Int[Array, " B"],
    positions: Int[Array, "B tokens_and_next"] | None = None,
) -> LazyState:
    """Keep the first `length` (0..W, per row) of the window's tokens in the buffer.

    It must have room for all W (`fold` first if it has not).

    Raises:
        ValueError: no room for W tokens, or a length beyond W (where they are known: not in jit).
    """
    width, full = keys_values[0][0].shape[1], 0
    if not isinstance(state.count, Tracer):
        full = int(state.count)
    if full + width > state.capacity:
        raise ValueError(
            f"the buffer of {state.capacity} holds {full} tokens and has no room for {width} more; "
            "fold the state first"
        )
    if not isinstance(length, Tracer) and not np.all((0 <= length) & (length <= width)):
        raise ValueError(f"a window of {width} tokens cannot give {np.asarray(length)} of them")
    put = lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, state.count, axis=1)
    gaps, length = _of_tokens(positions), jnp.asarray(length, jnp.int32)
    among = jnp.arange(width, dtype=jnp.int32)
    at = state.position[:, None] + among if gaps is None else gaps
    at = jnp.where(among < length[:, None], at, retention.NEVER)
    return dataclasses.replace(
        state,
        recent=jax.tree.map(put, state.recent, keys_values),
        recent_positions=put(state.recent_positions, at),
        count=state.count + width,
        position=retention.end(state.position, length, gaps),
    )


def commit(
    decoder: Decoder,
    state: LazyState,
    keys_values: KeysValues,
    length: Int[Array, " B"],
    positions: Int[Array, "B tokens_and_next"] | None = None,
    room: int = 0,
) -> LazyState:
    """Keep the first `length` (0..W, per row) of the window's tokens, and room for W more.

    Without a buffer they go into R at once. `positions` are those that `window` was given, `room`
    is what a wider window needs that may follow.
    """
    width = keys_values[0][0].shape[1]
    if not state.capacity:
        gaps, gammas = _of_tokens(positions), log_decays(decoder.config)
        folded = tuple(
            retention.fold(_by_head(k, r), _by_head(v, r), gammas, r, length, state.folded, gaps)
            for r, (k, v) in zip(state.retention, keys_values)
        )
        position = retention.end(state.position, length, gaps)
        return dataclasses.replace(state, retention=folded, folded=position, position=position)
    state = append(state, keys_values, length, positions)
    no_room = state.count + max(width, room) > state.capacity
    return jax.lax.cond(no_room, lambda s: fold(decoder, s), lambda s: s, state)


def fold(decoder: Decoder, state: LazyState) -> LazyState:
    """The same memory with an empty buffer."""
    gammas = log_decays(decoder.config)
    left = state.position[:, None] - 1 - state.recent_positions
    passed = state.position - state.folded
    form = _plain_fold
    if platform := _kernels_of(decoder.config, state):
        form = functools.partial(kernels.fold, platform=platform)
    folded = tuple(
        form(k, v, gammas, r, left, passed) for r, (k, v) in zip(state.retention, state.recent)
    )
    return dataclasses.replace(
        state,
        retention=folded,
        recent_positions=jnp.full_like(state.recent_positions, retention.NEVER),
        count=jnp.zeros_like(state.count),
        folded=state.position,
    )


def settle(decoder: Decoder, state: LazyState) -> RetNetState:
    """The plain state after all tokens."""
    if state.capacity:
        state = fold(decoder, state)
    return RetNetState(jnp.stack(state.retention), state.position)


def _kernels_of(config, state: LazyState) -> str | None:
    layout = sharding.current()
    alone = layout is None or layout.mesh.size == 1
    rows, short = len(state.position), 0 < state.capacity <= kernels.MOST_SLOTS
    if not (short and alone):
        return None
    return kernels_of(rows, config.heads, config.key_dim, config.value_dim)


def _plain_window(q, k, v, log_decay, r, recent_k, recent_v, *places):
    recent_k, recent_v = _by_head(recent_k, r), _by_head(recent_v, r)
    y = retention.window(q, k, v, log_decay, r, recent_k, recent_v, *places)
    return rms_normalize(y)


def _plain_fold(k, v, log_decay, r, *distances):
    return retention.fold_slots(_by_head(k, r), _by_head(v, r), log_decay, r, *distances)


def _by_head(x, state):
    """[B, T, H * width] by the heads of R, [B, H, K, E]."""
    heads = state.shape[1]
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads)


def _flat(x):
    return x.reshape(*x.shape[:2], x.shape[2] * x.shape[3])


def _of_tokens(positions):
    return None if positions is None else positions[:, :-1].astype(jnp.int32)
