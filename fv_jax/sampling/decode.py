"""Recurrent decoding (paper section 3.1): known tokens by chunks, unknown ones step by step.

    prefix                     frame 1                        frame 2
    [known blocks ........]    [text | SN] id id id id ...    [text | SN] id id id ...
     \\_ one chunkwise call      \\_ chunkwise   \\_ P steps

All of it is one jitted call: `lax.scan` over frames, and inside it over the ids of a frame. The
state's size does not depend on how many tokens it has seen.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, struct
from jaxtyping import Array, Int

from fv_jax.models.retnet import Leaf, RetNetState
from fv_jax.sampling.policies import Policy, position_noise

FREE = -1  # in `forced`: sample this id


@struct.dataclass
class DecodeState:
    """Everything needed to go on generating; a pytree of arrays, donated to `decode`.

    Attributes:
        net: retention state of all layers and the position of every row.
        keys: one typed PRNG key per row, [B]. Position p draws from `fold_in(key, p)`, so a key is
            never used up.
    """

    net: RetNetState
    keys: Leaf


def decode_frames(
    model: Any,
    policy: Policy,
    frame_start: int,
    state: DecodeState,
    prefix: Int[Array, "B T0"],
    headers: Int[Array, "F B T1"],
    forced: Int[Array, "F B P"],
) -> tuple[Int[Array, "F B P"], DecodeState]:
    """Generate F frames of P codes after `prefix`.

    Args:
        model: a `RetNet`.
        policy: how ids are chosen.
        frame_start: vocabulary id of frame code 0.
        state: `start` or an earlier call's result.
        prefix: known vocabulary ids that come first; T0 may be 0.
        headers: text and serial number before each frame, vocabulary ids.
        forced: frame codes to copy instead of sampling, or FREE.

    Returns:
        Frame codes, and the state after the last of them.
    """
    net = state.net
    if prefix.shape[1]:
        _, net = model.chunkwise(prefix, net)

    def frame(net: RetNetState, header_and_forced):
        header, forced_PB = header_and_forced
        hidden, net = model.chunkwise(header, net)

        def token(carry, forced_B):
            hidden_BD, net = carry
            logits = model.logits(hidden_BD).astype(jnp.float32)
            noise = position_noise(state.keys, net.position, logits.shape[-1])
            ids = jnp.where(forced_B == FREE, policy(logits, noise), forced_B)
            return model.step(ids + frame_start, net), ids

        (_, net), ids_PB = jax.lax.scan(token, (hidden[:, -1], net), forced_PB)
        return net, ids_PB.T

    net, ids = jax.lax.scan(frame, net, (headers, forced.swapaxes(1, 2)))
    return ids, DecodeState(net, state.keys)


def start(model: Any, seeds: list[tuple[int, ...]]) -> DecodeState:
    """The state before any token, one row per seed.

    A seed is the request's number followed by what tells this row from the request's others
    (stage, level, gap), each folded into the key.
    """
    keys = [functools.reduce(jax.random.fold_in, rest, jax.random.key(s)) for s, *rest in seeds]
    return DecodeState(model.init_state(len(seeds)), jnp.stack(keys))


@functools.partial(
    jax.jit, static_argnames=("graph", "policy", "frame_start"), donate_argnames="state"
)
def decode(
    params: Any,
    state: DecodeState,
    prefix: Array,
    headers: Array,
    forced: Array,
    *,
    graph: nnx.GraphDef,
    policy: Policy,
    frame_start: int,
) -> tuple[Int[Array, "F B P"], DecodeState]:
    """`decode_frames`, jitted, with the model given as parameters and graph."""
    model = nnx.merge(graph, params)
    return decode_frames(model, policy, frame_start, state, prefix, headers, forced)
