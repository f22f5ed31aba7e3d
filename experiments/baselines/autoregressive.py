"""Two samplers of the transformer baseline, token by token, with and without a KV cache.

Both replace the FREE ids of packed sequences (`sequence/packing.py`) as the project's own sampler
does: position p draws from the noise of `fold_in(key, p)`. So they give the same ids as
each other, and differ in cost alone. What is known (text, serial numbers, given frames) takes no
step of its own in either.

    uncached   the whole prefix anew for every id: the O(L^2) transformer (O(L^3) with attention's
               own square) that recurrent decoding is usually compared with
    cached     one new token per id, over the keys and values of those before: what anyone would
               run in practice

Shapes: B rows, L = M stride tokens (M blocks of text, serial number and P ids), V frame codes.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from experiments.baselines.attention import Transformer
from fv_jax.config.model import SequenceConfig
from fv_jax.generation.policies import Policy, Sampling, gumbel, position_words
from fv_jax.sequence.vocab import FREE, Vocab

# A prefix is rounded up to whole quarters of a frame, so that few lengths are compiled: with 5
# frames that reads 5% too much on average.
_PARTS = 4

_STATIC = ("graph", "sequence", "policy", "known_frames")


@functools.partial(jax.jit, static_argnames=_STATIC)
def uncached(
    params: Any,
    tokens: Int[Array, "B T"],
    keys: Array,
    *,
    graph: nnx.GraphDef,
    sequence: SequenceConfig,
    policy: Policy = Sampling(),
    known_frames: int = 0,
) -> Int[Array, "B T"]:
    """Replace every FREE id; each takes one run of the network over all tokens before it.

    Static shapes: the ids of a part of a frame are one compiled loop, whose input is the tokens
    up to the end of that part. What comes later than the id is masked by causality, and the head
    is applied at the one place that counts.

    Args:
        params: of a `Transformer`, as `nnx.split` gives them.
        tokens: int32 vocabulary ids, or FREE in frames.
        keys: one typed PRNG key per row, [B].
        graph: of the `Transformer`.
        sequence: layout of the tokens.
        policy: how ids are chosen.
        known_frames: leading blocks that have no FREE ids.

    Raises:
        ValueError: tokens that are no whole blocks, or no block left to sample.
    """
    starts = part_starts(sequence, _blocks(tokens, sequence, known_frames), known_frames)
    for start, stop in zip(starts, part_ends(sequence, starts)):
        tokens = part(
            params, tokens, keys, graph=graph, sequence=sequence, policy=policy, start=start,
            stop=stop,
        )  # fmt: skip
    return tokens


@functools.partial(jax.jit, static_argnames=("graph", "sequence", "policy", "start", "stop"))
def part(
    params: Any,
    tokens: Int[Array, "B T"],
    keys: Array,
    *,
    graph: nnx.GraphDef,
    sequence: SequenceConfig,
    policy: Policy = Sampling(),
    start: int,
    stop: int,
) -> Int[Array, "B T"]:
    """`uncached` for the places start..stop - 1 alone: each costs a run over `stop` tokens."""
    model = nnx.merge(graph, params)
    layers, put = model.stacked(), _Put(keys, tokens, sequence, policy)

    def sample(place, tokens):
        hidden = model.parallel(jnp.maximum(tokens[:, :stop], 0), layers)
        last = jax.lax.dynamic_index_in_dim(hidden, place - 1, axis=1, keepdims=False)
        return put(model, last, tokens, place)

    return jax.lax.fori_loop(start, stop, sample, tokens)


def part_starts(sequence: SequenceConfig, blocks: int, known_frames: int = 0) -> list[int]:
    """First places of the parts of all frames that are not known."""
    step = -(-sequence.frame_tokens // _PARTS)
    firsts = range(sequence.stride - sequence.frame_tokens, sequence.stride, step)
    return [b * sequence.stride + first for b in range(known_frames, blocks) for first in firsts]


def part_ends(sequence: SequenceConfig, starts: list[int]) -> list[int]:
    """Where they end."""
    step = -(-sequence.frame_tokens // _PARTS)
    return [min(s + step, (s // sequence.stride + 1) * sequence.stride) for s in starts]


@functools.partial(jax.jit, static_argnames=_STATIC)
def cached(
    params: Any,
    tokens: Int[Array, "B T"],
    keys: Array,
    *,
    graph: nnx.GraphDef,
    sequence: SequenceConfig,
    policy: Policy = Sampling(),
    known_frames: int = 0,
) -> Int[Array, "B T"]:
    """Replace every FREE id, one token per step, with a KV cache.

    Each block begins with one read of all that is known since the last id (and of that id); its
    other ids take one step each. The cache lives inside the call and grows block by block, so a
    step attends to the slots of the blocks so far, not to all L.

    Args and errors are those of `uncached`.
    """
    blocks = _blocks(tokens, sequence, known_frames)
    model = nnx.merge(graph, params)
    put, read = _Put(keys, tokens, sequence, policy), 0
    cache = model.init_state(tokens.shape[0], 0)
    cache = dataclasses.replace(cache, position=jnp.zeros((1,), jnp.int32))

    def step(place, carry):
        tokens, cache = carry
        last = jax.lax.dynamic_slice_in_dim(tokens, place - 1, 1, axis=1)
        hidden, cache = model.read(last, cache)
        return put(model, hidden[:, 0], tokens, place), cache

    for block in range(known_frames, blocks):
        end = (block + 1) * sequence.stride
        first = end - sequence.frame_tokens
        hidden, cache = model.read(tokens[:, read:first], cache.grown(end))
        tokens = put(model, hidden[:, -1], tokens, first)
        tokens, cache = jax.lax.fori_loop(first + 1, end, step, (tokens, cache))
        read = end - 1
    return tokens


class _Put:
    """Writes the sampled id at one place of all rows, unless an id is there."""

    def __init__(self, keys: Array, tokens: Array, sequence: SequenceConfig, policy: Policy):
        rows, length = tokens.shape
        self.words = position_words(keys, jnp.broadcast_to(jnp.arange(length), (rows, length)))
        self.policy, self.frame_start = policy, Vocab(sequence).frame_start

    def __call__(
        self,
        model: Transformer,
        hidden: Float[Array, "B D"],
        tokens: Int[Array, "B T"],
        place: int | Int[Array, ""],
    ) -> Int[Array, "B T"]:
        at_place = lambda x: jax.lax.dynamic_index_in_dim(x, place, axis=1, keepdims=False)
        logits = model.logits(hidden).astype(jnp.float32)
        noise = gumbel(at_place(self.words), logits.shape[-1])
        here, sampled = at_place(tokens), self.policy(logits, noise) + self.frame_start
        new = jnp.where(here == FREE, sampled, here)
        return jax.lax.dynamic_update_index_in_dim(tokens, new, place, axis=1)


def _blocks(tokens: Array, sequence: SequenceConfig, known_frames: int) -> int:
    """Number of blocks."""
    length = tokens.shape[1]
    if length % sequence.stride:
        raise ValueError(f"tokens must be whole blocks of {sequence.stride}, got {length}")
    blocks = length // sequence.stride
    if not 0 <= known_frames < blocks:
        raise ValueError(f"known_frames must be in 0..{blocks - 1}, got {known_frames}")
    return blocks
