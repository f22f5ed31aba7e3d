"""The lazy state: the newest tokens' k and v beside R, folded into R once in a while.

    window   hidden vectors of the next W tokens; reads the state, writes nothing
    append   keep the first n of them, per row: n (k, v) pairs go into the buffer
    fold     empty the buffer into R; due when W more tokens might not fit
    commit   append, and fold when it is due
    settle   the plain state

    R: all tokens up to here |  buffer: M slots      |  window: W
    [ ......................]|[ k,v  k,v  k,v  -  - ]|[ t t t ]

With M slots decoding writes R once per M tokens instead of at each: per layer and row, R is read
at every token (K E H floats) and the buffer (up to M (K + E) H floats) is small beside it. With
M = 0 a window's tokens go into R at once, which costs less where R lies in a cache.

Layers are kept apart, not stacked: a loop that cuts each layer's weights and state out of a stack
copies all of them at every step.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from fv_jax.models.heads import turn
from fv_jax.models.layers import rms_normalize
from fv_jax.models.retnet import Decoder, Leaf, RetNet, RetNetState, log_decays, rope_of_tokens
from fv_jax.ops import retention

KeysValues = tuple[tuple[Any, Any], ...]  # of L layers, k [B, W, H, K] and v [B, W, H, E]


@struct.dataclass
class LazyState:
    """What the network remembers, the newest tokens apart.

    Attributes:
        retention: R of L layers, without the buffered tokens, [B, H, K, E] each.
        recent: k (with RoPE, scaled) and v of L layers, [B, M, H, K] and [B, M, H, E] each, in a
            row's first `count` slots.
        recent_positions: where their tokens stand, [B, M] int32.
        count: buffered tokens per row, [B] int32.
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
    slots = lambda width: jnp.zeros((rows, capacity, c.heads, width), dtype)
    return LazyState(
        tuple(state.retention),
        tuple((slots(c.key_dim), slots(c.value_dim)) for _ in range(c.layers)),
        jnp.zeros((rows, capacity), jnp.int32),
        jnp.zeros((rows,), jnp.int32),
        state.position,
        state.position,
    )


def window(
    decoder: Decoder,
    tokens: Int[Array, "B W"],
    state: LazyState,
    positions: Int[Array, "B tokens_and_next"] | None = None,
) -> tuple[Float[Array, "B W D"], KeysValues]:
    """Hidden vectors of the next W tokens, and their k and v for `append` or `commit`.

    `positions` are those of `RetNet.chunkwise`, of the tokens and of what comes after them.
    """
    at, rope = rope_of_tokens(
        decoder.config, state.position, tokens.shape[1], decoder.tables.embedding.dtype, positions
    )
    gaps = None if positions is None else at
    x, keys_values = decoder.tables.embed(tokens, at), []
    for block, r, (keys, values) in zip(decoder.blocks, state.retention, state.recent):

        def retain(q, k, v, log_decay, r=r, keys=keys, values=values):
            q, k = turn(q, k, rope)
            y = retention.window(
                q, k, v, log_decay, r, keys, values, state.recent_positions, state.count,
                state.folded, state.position, gaps,
            )  # fmt: skip
            return rms_normalize(y), (k, v)

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

    It must have room for all W (`fold` first if it has not): a row's rejected tokens lie beyond
    its count, where nothing reads them and the next window overwrites them.

    Raises:
        ValueError: no room for W tokens, or a length beyond W (where they are known: not in jit).
    """
    width, full = keys_values[0][0].shape[1], 0
    if not isinstance(state.count, Tracer):
        full = int(np.max(state.count, initial=0))
    if full + width > state.capacity:
        raise ValueError(
            f"the buffer of {state.capacity} holds {full} tokens and has no room for {width} more; "
            "fold the state first"
        )
    if not isinstance(length, Tracer) and not np.all((0 <= length) & (length <= width)):
        raise ValueError(f"a window of {width} tokens cannot give {np.asarray(length)} of them")
    update = jax.vmap(
        lambda row, new, at: jax.lax.dynamic_update_slice_in_dim(row, new, at, axis=0)
    )
    put = lambda old, new: update(old, new, state.count)
    gaps, length = _of_tokens(positions), jnp.asarray(length, jnp.int32)
    following = state.position[:, None] + jnp.arange(width, dtype=jnp.int32)
    return dataclasses.replace(
        state,
        recent=jax.tree.map(put, state.recent, keys_values),
        recent_positions=put(state.recent_positions, following if gaps is None else gaps),
        count=state.count + length,
        position=retention.end(state.position, length, gaps),
    )


def commit(
    decoder: Decoder,
    state: LazyState,
    keys_values: KeysValues,
    length: Int[Array, " B"],
    positions: Int[Array, "B tokens_and_next"] | None = None,
) -> LazyState:
    """Keep the first `length` (0..W, per row) of the window's tokens, and room for W more.

    Without a buffer they go into R at once. `positions` are those that `window` was given.
    """
    if not state.capacity:
        gaps = _of_tokens(positions)
        folded = _fold(decoder, state, keys_values, length, gaps)
        position = retention.end(state.position, length, gaps)
        return dataclasses.replace(state, retention=folded, folded=position, position=position)
    state = append(state, keys_values, length, positions)
    no_room = jnp.any(state.count + keys_values[0][0].shape[1] > state.capacity)
    return jax.lax.cond(no_room, lambda s: fold(decoder, s), lambda s: s, state)


def fold(decoder: Decoder, state: LazyState) -> LazyState:
    """The same memory with an empty buffer."""
    folded = _fold(decoder, state, state.recent, state.count, state.recent_positions)
    return dataclasses.replace(
        state, retention=folded, count=jnp.zeros_like(state.count), folded=state.position
    )


def settle(decoder: Decoder, state: LazyState) -> RetNetState:
    """The plain state after all tokens."""
    if state.capacity:
        state = fold(decoder, state)
    return RetNetState(jnp.stack(state.retention), state.position)


def _fold(decoder, state, keys_values, length, positions):
    gammas, start = log_decays(decoder.config), state.folded
    return tuple(
        retention.fold(k, v, gammas, r, length, start, positions)
        for r, (k, v) in zip(state.retention, keys_values)
    )


def _of_tokens(positions):
    return None if positions is None else positions[:, :-1].astype(jnp.int32)
