"""Decoding frames as what changed (`sequence/changes.py`): a change a step.

    fed        header ..   SN   c1   c2   c3
    sampled             p1   c1 p2  c2 p3  c3 END          p place, c id

The first frame is one of all ids, and decoded as any (`sampler.py`). Rows change at different
places; at a frame's end they wait for each other, and the next header is read by all in one window.
Two things are random of a place, each a function of the request's key and the position: whether it
changes, if it is asked, and to what. So the seed alone decides the video, whatever the batch.

A place is asked whether it changes, given what came before and that nothing changed since
(`places.change_logits`): in raster order the first that does is the next. So the next place is
drawn from softmax(s / temperature), top-k and top-p as for ids. At temperature 0 every id is the
likeliest, as where all are coded: a place changes if one id is likelier than that it stays. Only
places that are likelier to change than not can be such, and they are asked for their ids in turn.
An id that is known is not drawn: its place changes if it must, and else it does not.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, struct
from jaxtyping import Array, Bool, Float, Int

from fv_jax.config.model import SequenceConfig
from fv_jax.generation.policies import Policy, Sampling, gumbel, position_words
from fv_jax.generation.sampler import (
    DecodeState,
    Feed,
    Sampler,
    codes_around,
    every_reading,
    guided,
    look_up,
    readings,
)
from fv_jax.models import decode_cache
from fv_jax.models.places import change_logits
from fv_jax.models.retnet import Decoder
from fv_jax.models.tables import Leaf
from fv_jax.ops.products import einsum
from fv_jax.sequence.changes import bases
from fv_jax.sequence.nearby import NONE, neighbors
from fv_jax.sequence.vocab import FREE, Vocab

_WHETHER = 2**31 - 1  # folded into a row's key: no position is as large


@struct.dataclass
class Blocks:
    """What is known of a sequence's blocks before it is decoded.

    Attributes:
        bases: the block that each is compared with, [F] int32.
        neighbors: the places that each place knows when its id is drawn, [T, nearby] int32.
        before: those that it knows before anything of its frame is decided, likewise.
    """

    bases: Leaf
    neighbors: Leaf
    before: Leaf

    @classmethod
    def of(cls, order: Sequence[int], sequence: SequenceConfig) -> "Blocks":
        """Of a sequence whose frames are at these times."""
        before = neighbors(order, sequence, changes=True)
        decided = neighbors(order, sequence, changes=True, decided=True)
        return cls(np.asarray(bases(order), np.int32), decided, before)


@struct.dataclass
class Changed:
    """What one call did.

    Attributes:
        steps: one after the other.
        fed: tokens that each row read, [B] int32.
        changes: ids that were drawn, [B] int32.
    """

    steps: Leaf
    fed: Leaf
    changes: Leaf


def decode_changes(
    model: Any,
    sampler: Sampler,
    state: DecodeState,
    tokens: Int[Array, "B T"],
    blocks: Blocks,
    known: Feed | None,
    first: Int[Array, ""] | int,
    end: Int[Array, ""] | int,
) -> tuple[Int[Array, "B T"], DecodeState, Changed]:
    """Decide the FREE ids of some blocks, of which none is a sequence's first.

    Args:
        model: a `RetNet` with places.
        sampler: the policy, and guidance; places and ids are chosen by it.
        state: after what precedes `known`, or the block `first`.
        tokens: whole blocks of vocabulary ids, or FREE; all are known before the block `first`.
        blocks: of the same sequence.
        known: places of tokens that are read before, all at once; None for none.
        first / end: number of the first block that is decoded, and of the one after the last.

    Returns:
        tokens, the state after the last of those blocks, and what was done.
    """
    rows, s = len(tokens), sampler.sequence
    # What stands behind the last block knows nothing.
    around = jnp.pad(blocks.neighbors, ((0, 1), (0, 0)), constant_values=NONE)
    blocks = jax.tree.map(jnp.asarray, blocks.replace(neighbors=around))
    net, fed = state.net, jnp.zeros((rows,), jnp.int32)
    if known is not None:
        places, following = known.places[:, :-1], known.places[:, 1:]
        read = look_up(tokens, jnp.minimum(places, tokens.shape[1] - 1))
        read = readings(sampler, read, places)
        nearby = codes_around(sampler, tokens, blocks.neighbors, following)
        every = functools.partial(every_reading, sampler)
        _, net = model.chunkwise(read, net, every(known.length), every(known.places), nearby=nearby)
        fed = known.length
    # Whatever was left out of it, a block ends where the next begins.
    next_block = -(-net.position[:rows] // s.stride) * s.stride
    origin = next_block - first * s.stride
    buffer = sampler.buffer and max(sampler.buffer, s.header)
    lazy = decode_cache.begin(model, net, buffer)
    decoder = model.decoder()
    changed = Changed(jnp.zeros((), jnp.int32), fed, jnp.zeros((rows,), jnp.int32))
    step = lambda block, carry: _block(decoder, sampler, state.keys, blocks, origin, block, *carry)
    lazy, tokens, changed = jax.lax.fori_loop(
        jnp.int32(first), jnp.int32(end), step, (lazy, tokens, changed)
    )
    return tokens, DecodeState(decode_cache.settle(decoder, lazy), state.keys), changed


def changes_next(
    policy: Policy, scores: Float[Array, "*b places_and_end"], noise: Float[Array, "*b P choices"]
) -> Float[Array, "*b P"]:
    """Log odds of the places that would change, were each the first one to be asked.

    Those of the others are minus infinity.

    Args:
        policy: `Sampling`, or another that chooses between staying, 0, and changing.
        scores: of the next place.
        noise: Gumbel noise of both choices.
    """
    if isinstance(policy, Sampling) and not policy.is_greedy:
        scores, policy = policy.tempered(scores), Sampling()
    odds = change_logits(scores)
    goes = policy(jnp.stack([jnp.zeros_like(odds), odds], axis=-1), noise) == 1
    return jnp.where(goes, odds, -jnp.inf)


def stays_likelier(
    policy: Policy, odds: Float[Array, "*b"], logits: Float[Array, "*b V"]
) -> Bool[Array, "*b"] | None:
    """Whether no id is as likely as that a place stays as it is; None where that is not asked.

    A policy that takes what is likeliest takes the likeliest id, the base's among them, as it does
    where all ids are coded. That a place changes may well be likelier than not, and each id that it
    may change to is not.

    Args:
        policy: how ids are chosen.
        odds: log odds that the place changes.
        logits: of the ids that it changes to.
    """
    if not (isinstance(policy, Sampling) and policy.is_greedy):
        return None
    return odds + jax.nn.log_softmax(logits, axis=-1).max(axis=-1) < 0


@dataclasses.dataclass(frozen=True)
class _Frame:
    """What is known of one frame of all rows before anything of it is decided.

    Attributes:
        wanted: its vocabulary ids, or FREE, [B, P].
        free: where they are FREE.
        must: which of those that are known differ from the base.
        keys: what places are found by, [readings * B, P, C].
        words: random words of every place's id, [B, P, 2].
        whether: Gumbel noise of whether each place changes, [B, P, 2].
    """

    wanted: Array
    free: Array
    must: Array
    keys: Array
    words: Array
    whether: Array

    def odds(
        self, decoder: Decoder, sampler: Sampler, x: Float[Array, "R D"], token: Int[Array, " B"],
        here: Int[Array, " B"],
    ) -> Float[Array, "B P"]:  # fmt: skip
        """`changes_next` of the places after `here`, whose id is `token`; infinite where known."""
        tables, every = decoder.tables, functools.partial(every_reading, sampler)
        scores, query = tables.places.after(x, tables.embedding[every(token)])
        by_key = einsum("rc,rpc->rp", query, self.keys)
        scores = tables.places.beyond(scores, by_key, every(here)).astype(jnp.float32)
        odds = changes_next(sampler.policy, guided(sampler, scores), self.whether)
        odds = jnp.where(self.free, odds, jnp.where(self.must, jnp.inf, -jnp.inf))
        return jnp.where(jnp.arange(odds.shape[1]) > here[:, None], odds, -jnp.inf)


def _first(odds: Float[Array, "B P"]) -> Int[Array, " B"]:
    """The first place that would change; P for none."""
    goes = odds > -jnp.inf
    return jnp.where(goes.any(axis=1), jnp.argmax(goes, axis=1), goes.shape[1]).astype(jnp.int32)


def _frame(decoder: Decoder, sampler: Sampler, keys, blocks: Blocks, origin, block, tokens):
    """The frame of a block, and the tokens with its base's ids where it is open: what is known is
    known to its neighbors as well.
    """
    s, tables = sampler.sequence, decoder.tables
    of_block = lambda block: jax.lax.dynamic_slice_in_dim(
        tokens, block * s.stride + s.header, s.frame_tokens, axis=1
    )
    wanted, old = of_block(block), of_block(blocks.bases[block])
    free, first = wanted == FREE, block * s.stride + s.header
    now = jnp.where(free, old, wanted)
    tokens = jax.lax.dynamic_update_slice_in_dim(tokens, now, first, axis=1)
    there = jnp.broadcast_to(first + jnp.arange(s.frame_tokens), wanted.shape)
    around = codes_around(sampler, tokens, blocks.before, there)[: len(tokens)]
    found = tables.places.keys(tables.nearby, around)  # the text has no part in them
    at = origin[:, None] + there
    whether = jax.vmap(lambda key: jax.random.fold_in(key, _WHETHER))(keys)
    frame = _Frame(
        wanted, free, ~free & (wanted != old), every_reading(sampler, found),
        position_words(keys, at), gumbel(position_words(whether, at), 2),
    )  # fmt: skip
    return frame, tokens


def _block(decoder: Decoder, sampler: Sampler, keys, blocks: Blocks, origin, block, lazy, tokens,
           changed: Changed):  # fmt: skip
    """One frame, of all rows."""
    s, rows, row = sampler.sequence, len(tokens), jnp.arange(len(tokens))
    every, room = functools.partial(every_reading, sampler), s.header - 1  # the next header's
    end, start = s.frame_tokens, block * s.stride
    frame, tokens = _frame(decoder, sampler, keys, blocks, origin, block, tokens)
    ask = functools.partial(frame.odds, decoder, sampler)
    full = lambda value: jnp.full((rows,), value, jnp.int32)

    head = jnp.broadcast_to(start + jnp.arange(s.header), (rows, s.header))
    header, positions = look_up(tokens, head), every(origin[:, None] + head)
    read = readings(sampler, header[:, :-1], head[:, :-1])
    x, new = decode_cache.window(decoder, read, lazy, positions)
    first = ask(x[:, -1], header[:, -1], full(-1))
    # No place is below 0; see `sampler.advance` why it is asked.
    length = jnp.where(_first(first) >= 0, room, 0)
    lazy = decode_cache.commit(decoder, lazy, new, every(length), positions, room)

    def step(carry):
        lazy, tokens, token, at, odds, live, changed = carry
        after = _first(odds)
        place, goes_on = jnp.minimum(after, end - 1), live & (after < end)
        to = start + s.header + after  # beyond the last place stands the next header
        nearby = codes_around(sampler, tokens, blocks.neighbors, to[:, None])
        positions = every(origin[:, None] + jnp.stack([at, to], axis=1))
        x, new = decode_cache.window(decoder, every(token[:, None]), lazy, positions, nearby)
        logits = guided(sampler, decoder.tables.logits(x, nearby).astype(jnp.float32))[:, 0]
        drawn = sampler.policy(logits, gumbel(frame.words[row, place], logits.shape[-1]))
        known = frame.wanted[row, place]
        drawn = jnp.where(frame.free[row, place], drawn + Vocab(s).frame_start, known)
        stays = stays_likelier(sampler.policy, odds[row, place], logits)
        fed = live & (drawn >= 0)  # likewise of ids
        if stays is not None:  # then the token is not read: it is again, told of another place
            stays &= goes_on
            fed, goes_on = fed & ~stays, goes_on & ~stays
        lazy = decode_cache.commit(
            decoder, lazy, new, every(fed.astype(jnp.int32)), positions, room
        )
        keep = lambda new, before: jnp.where(goes_on, new, before)
        token = keep(drawn, token)
        put = (row, start + s.header + place)
        tokens = tokens.at[put].set(keep(drawn, tokens[put]))
        changed = changed.replace(
            steps=changed.steps + 1, fed=changed.fed + fed,
            changes=changed.changes + (goes_on & frame.free[row, place]),
        )  # fmt: skip
        following = ask(x[:, 0], token, place)
        live = goes_on
        if stays is not None:
            live |= stays
            following = jnp.where(stays[:, None], odds.at[row, place].set(-jnp.inf), following)
        return lazy, tokens, token, keep(to, at), following, live, changed

    changed = changed.replace(steps=changed.steps + 1, fed=changed.fed + room)
    carry = (lazy, tokens, header[:, -1], head[:, -1], first, full(1) > 0, changed)
    carry = jax.lax.while_loop(lambda carry: jnp.any(carry[5]), step, carry)
    return carry[0], carry[1], carry[-1]


@functools.partial(jax.jit, static_argnames=("graph", "sampler"), donate_argnames="state")
def decode_blocks(
    params: Any,
    state: DecodeState,
    tokens: Array,
    blocks: Blocks,
    known: Feed | None,
    first: Array,
    end: Array,
    *,
    graph: nnx.GraphDef,
    sampler: Sampler,
) -> tuple[Int[Array, "B T"], DecodeState, Changed]:
    """`decode_changes`, jitted, with the model given as parameters and graph."""
    model = nnx.merge(graph, params)
    return decode_changes(model, sampler, state, tokens, blocks, known, first, end)
