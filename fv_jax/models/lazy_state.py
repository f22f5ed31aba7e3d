"""The lazy state: the newest tokens' k and v beside R, folded into R once in a while.

    window   hidden vectors of the next W tokens; reads the state, writes nothing
    append   keep the first n of them, per row: n (k, v) pairs go into the buffer
    fold     empty the buffer into R; due when W more tokens might not fit

    R: all tokens up to here |  buffer: C slots      |  window: W
    [ ......................]|[ k,v  k,v  k,v  -  - ]|[ t t t ]

Decoding writes R once per C tokens instead of at each: per layer and row, R is read at every
token (K E H floats) and the buffer (up to C (K + E) H floats) is small beside it.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from fv_jax.models.retnet import Leaf, RetNet, RetNetState, log_decays, scan_layers
from fv_jax.ops import retention

KeysValues = tuple[Any, Any]  # k [N, B, W, H, K] and v [N, B, W, H, E], rotated and scaled


@struct.dataclass
class LazyState:
    """What the network remembers, the newest tokens apart.

    Attributes:
        retention: R of every layer, without the buffered tokens, [N, B, H, K, E].
        keys: [N, B, C, H, K]; slot j of row b holds token `position[b] - count[b] + j`.
        values: [N, B, C, H, E].
        count: buffered tokens per row, [B] int32.
        position: tokens seen, buffered ones included, [B] int32.
    """

    retention: Leaf
    keys: Leaf
    values: Leaf
    count: Leaf
    position: Leaf

    @property
    def capacity(self) -> int:
        """C: slots of the buffer."""
        return self.keys.shape[2]


def begin(model: RetNet, state: RetNetState, capacity: int) -> LazyState:
    """A lazy state with an empty buffer of `capacity` slots.

    Raises:
        ValueError: capacity below 1, or a state that is not one of the model's.
    """
    if capacity < 1:
        raise ValueError(f"the buffer's capacity must be >= 1, got {capacity}")
    model.check(jnp.zeros((state.position.shape[0], 1), jnp.int32), state)
    c, rows = model.config, state.position.shape[0]
    low = state.retention.dtype == jnp.float32 and c.matmul_dtype == "bfloat16"
    dtype = jnp.bfloat16 if low else state.retention.dtype
    slots = (c.layers, rows, capacity, c.heads)
    return LazyState(
        state.retention,
        jnp.zeros((*slots, c.key_dim), dtype),
        jnp.zeros((*slots, c.value_dim), dtype),
        jnp.zeros((rows,), jnp.int32),
        state.position,
    )


def window(
    model: RetNet, tokens: Int[Array, "B W"], state: LazyState
) -> tuple[Float[Array, "B W D"], KeysValues]:
    """Hidden vectors of the next W tokens, and their k and v for `append`."""
    position = state.position[:, None] + jnp.arange(tokens.shape[1])

    def layer(x, inputs):
        block, r, keys, values = inputs

        def retain(q, k, v, log_decay):
            y = retention.window(
                q, k, v, log_decay, r, keys, values, state.count, state.position
            )  # fmt: skip
            return y, (k, v)

        return block(x, position, retain)

    stacked = (model.blocks, state.retention, state.keys, state.values)
    x, keys_values = scan_layers(layer, model.embed(tokens, position), stacked)
    return model.norm(x), keys_values


def append(state: LazyState, keys_values: KeysValues, length: Int[Array, " B"]) -> LazyState:
    """Keep the first `length` (0..W, per row) of the window's tokens.

    The buffer must have room for all W (`fold` first if it has not): a row's rejected tokens lie
    beyond its count, where nothing reads them and the next window overwrites them.

    Raises:
        ValueError: no room for W tokens, or a length beyond W (where they are known: not in jit).
    """
    width, full = keys_values[0].shape[2], 0
    if not isinstance(state.count, Tracer):
        full = int(np.max(state.count, initial=0))
    if full + width > state.capacity:
        raise ValueError(
            f"the buffer of {state.capacity} holds {full} tokens and has no room for {width} more; "
            "fold the state first"
        )
    if not isinstance(length, Tracer) and not np.all((0 <= length) & (length <= width)):
        raise ValueError(f"a window of {width} tokens cannot give {np.asarray(length)} of them")

    def write(buffer_NBCH, new_NBWH):
        put = lambda row, new, at: jax.lax.dynamic_update_slice_in_dim(row, new, at, axis=1)
        return jax.vmap(put, in_axes=(1, 1, 0), out_axes=1)(buffer_NBCH, new_NBWH, state.count)

    keys, values = keys_values
    return dataclasses.replace(
        state,
        keys=write(state.keys, keys),
        values=write(state.values, values),
        count=state.count + length,
        position=state.position + length,
    )


def fold(model: RetNet, state: LazyState) -> LazyState:
    """The same memory with an empty buffer."""
    gammas = log_decays(model.config)

    def layer(k, v, r):
        return retention.fold(k, v, gammas, r, state.count)

    r = jax.vmap(layer)(state.keys, state.values, state.retention)
    return dataclasses.replace(state, retention=r, count=jnp.zeros_like(state.count))


def settle(model: RetNet, state: LazyState) -> RetNetState:
    """The plain state after all tokens."""
    folded = fold(model, state)
    return RetNetState(folded.retention, folded.position)
