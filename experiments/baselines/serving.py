"""Many requests at once: rows that come and go between blocks, and a queue in virtual time.

A request is a video of some frames. Frames are made block by block, a row each; between two blocks
a row that is done can leave, and one that waits can take its place.

    static       a batch begins with what waits; its rows leave together, when the longest is done
    continuous   rows leave when they are done, and others come in between two blocks

What that costs depends on what a row remembers. The state of retention has one size and knows no
other row's length: to admit a request is to set its row to zeros. A KV cache has slots for the
longest row that is in, and all rows read as many.
"""

import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from experiments.baselines.attention import Cache
from experiments.baselines.ways import RetNets
from fv_jax.config.model import SequenceConfig
from fv_jax.generation import drafts
from fv_jax.generation.policies import Sampling, gumbel, position_words
from fv_jax.generation.sampler import DecodeState, Sampler, decode
from fv_jax.sequence.vocab import Vocab


@dataclasses.dataclass(frozen=True)
class Request:
    """When it comes, s, and how many blocks it wants."""

    arrival: float
    blocks: int


def finished(
    requests: Sequence[Request],
    block_seconds: Callable[[int, int], float],
    *,
    rows: int,
    continuous: bool,
) -> list[float]:
    """When each request is done, s, if a server of so many rows takes them as they come.

    Args:
        requests: in the order of their arrival.
        block_seconds: what a block of so many rows takes, the longest of which has so many blocks
            with this one.
        rows: the most at a time.
        continuous: or static.
    """
    waiting, active = deque(range(len(requests))), {}  # request -> blocks made
    clock, done = 0.0, [0.0] * len(requests)
    while waiting or active:
        if not active:
            clock = max(clock, requests[waiting[0]].arrival)
        if continuous or not active:
            while waiting and len(active) < rows and requests[waiting[0]].arrival <= clock:
                active[waiting.popleft()] = 0
        clock += block_seconds(len(active), max(active.values()) + 1)
        active = {request: made + 1 for request, made in active.items()}
        ready = [request for request, made in active.items() if made >= requests[request].blocks]
        if continuous or len(ready) == len(active):
            for request in ready:
                done[request] = clock
                del active[request]
    return done


def admitted(state: DecodeState, row: int, key: Array) -> DecodeState:
    """The state with a row before any token: all that continuous batching needs of retention."""
    net = state.net.replace(
        retention=state.net.retention.at[:, row].set(0), position=state.net.position.at[row].set(0)
    )
    return state.replace(net=net, keys=state.keys.at[row].set(key))


def made_by(
    ours: RetNets, state: DecodeState, tokens: Int[np.ndarray, "B T"]
) -> tuple[Int[Array, "B T"], DecodeState]:
    """The next tokens of all rows, with ids, and the state behind them; it is taken over."""
    blocks = tokens.shape[1] // ours.layout.stride
    return decode(
        ours.params, state, jnp.asarray(tokens), jnp.asarray(drafts.nothing(blocks, ours.layout)),
        graph=ours.graph, sampler=Sampler(ours.layout),
        prefix=ours.layout.stride - ours.layout.frame_tokens - 1,  # known, before the first id
    )[:2]  # fmt: skip


def alone(ours: RetNets, tokens: Int[np.ndarray, " T"], key: Array) -> Int[Array, " T"]:
    """One request, all of its blocks in one call."""
    state = DecodeState(nnx.merge(ours.graph, ours.params).init_state(1), key[None])
    return made_by(ours, state, tokens[None])[0][0]


def served(
    ours: RetNets, requests: Sequence[Int[np.ndarray, " T"]], keys: Array, *, rows: int
) -> list[Int[np.ndarray, " T"]]:
    """Continuous batching as it is run: whole blocks with FREE ids in, filled out.

    Args:
        ours: network and layout.
        requests: of any numbers of blocks, all there from the beginning.
        keys: one for each.
        rows: of the state.
    """
    stride = ours.layout.stride
    state = DecodeState(
        nnx.merge(ours.graph, ours.params).init_state(rows), jnp.broadcast_to(keys[0], rows)
    )
    waiting = deque(range(len(requests)))
    active: list[tuple[int, int] | None] = [None] * rows  # request, blocks made
    made = [np.array(tokens) for tokens in requests]
    while waiting or any(active):
        for row in range(rows):
            if active[row] is None and waiting:
                active[row] = waiting.popleft(), 0
                state = admitted(state, row, keys[active[row][0]])
        block = np.ones((rows, stride), np.int32)  # known tokens, in rows that nobody wants
        for row, place in enumerate(active):
            if place:
                block[row] = made[place[0]][place[1] * stride :][:stride]
        out, state = made_by(ours, state, block)
        for row, place in enumerate(active):
            if place:
                request, at = place
                made[request][at * stride :][:stride] = out[row]
                ended = (at + 1) * stride == len(made[request])
                active[row] = None if ended else (request, at + 1)
    return made


@functools.partial(jax.jit, static_argnames=("graph", "layout"))
def cached_block(
    params, text: Int[Array, "B t"], keys: Array, cache: Cache, *, graph: nnx.GraphDef,
    layout: SequenceConfig,
) -> tuple[Int[Array, "B P"], Cache]:  # fmt: skip
    """The ids of the transformer's next block: what is known is read at once, then each id.

    Args:
        params: of the transformer.
        text: what is known of the block.
        keys: one for each row.
        cache: with room for the block; its position is [1] where all rows stand at the same.
        graph: of the transformer.
        layout: of the sequence.
    """
    model, start = nnx.merge(graph, params), Vocab(layout).frame_start
    shape = len(text), layout.frame_tokens
    places = cache.position[:, None] + text.shape[1] + jnp.arange(layout.frame_tokens)
    words = position_words(keys, jnp.broadcast_to(places, shape))
    hidden, cache = model.read(text, cache)

    def step(n, carry):
        hidden, cache, ids = carry
        logits = model.logits(hidden).astype(jnp.float32)
        noise = gumbel(jax.lax.dynamic_index_in_dim(words, n, 1, False), logits.shape[-1])
        new = Sampling()(logits, noise) + start
        hidden, cache = model.read(new[:, None], cache)
        return hidden[:, 0], cache, jax.lax.dynamic_update_index_in_dim(ids, new, n, 1)

    none = jnp.zeros(shape, jnp.int32)
    _, cache, ids = jax.lax.fori_loop(0, layout.frame_tokens, step, (hidden[:, -1], cache, none))
    return ids, cache
