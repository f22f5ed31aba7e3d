"""Sampling key frames: with all ids by the core's sampler, or as changes.

The randomness of an event is a function of the request's key and of a position: of where an id
stands, or of where the one stands after which a place is chosen. So a seed's video does not depend
on the batch, in float32 up to ties.

Of changes a step decides one: its id, then the next place. Rows are at different places and leave
out different ones; at a frame's end they wait for each other, and the next header is read by all in
one window, together with the last change.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int

from experiments.changes.network import (
    NEVER,
    KeyFrameNetwork,
    around_place,
    hidden,
    surroundings,
    whole_rows,
)
from fv_jax.generation import drafts
from fv_jax.generation.policies import gumbel, position_words
from fv_jax.generation.sampler import DecodeState, Sampler, advance, begin, settle
from fv_jax.models import decode_cache
from fv_jax.models.retnet import Decoder
from fv_jax.models.tables import Tables
from fv_jax.sequence.vocab import FREE, Vocab

_OF_PLACES = 2**31 - 1  # folded into a row's key: no position is as large


@dataclasses.dataclass(frozen=True)
class Made:
    """What was sampled.

    Attributes:
        frames: codes, given ones among them.
        nats: what the model says each row's sampled events cost, at temperature 1; zeros where
            all ids were sampled by the core's sampler.
        fed: tokens that each row read.
        steps: one after the other; a header, or a given frame, is one.
    """

    frames: Int[np.ndarray, "B F P"]
    nats: Float[np.ndarray, " B"]
    fed: Int[np.ndarray, " B"]
    steps: int


def sample(
    params: Any, graph: nnx.GraphDef, sampler: Sampler, text: Int[np.ndarray, "B text"],
    seeds: list[int], *, key_frames: int, given: Int[np.ndarray, "B P"] | None = None,
    guess: bool = True,
) -> Made:  # fmt: skip
    """Key frames of texts, one row a seed.

    Args:
        params: of a `KeyFrameNetwork`.
        graph: its graph.
        sampler: policy, and the window where all ids are sampled; without guidance.
        text: vocabulary ids, padded.
        seeds: of the rows.
        key_frames: F.
        given: codes of the first frame; None to sample it.
        guess: guess ids where all are sampled (`generation/drafts.py`).
    """
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
    call = _of_changes if nnx.merge(graph, params).way == "changes" else _of_all_ids
    made = call(params, text, keys, given, graph=graph, sampler=sampler, count=key_frames,
                guess=guess)  # fmt: skip
    frames, nats, fed, steps = jax.device_get(made)
    return Made(frames, nats, fed, int(steps))


@dataclasses.dataclass(frozen=True)
class _Tables(Tables):
    """Tables that add something to what they embed; it does not leave the trace it is made in."""

    added: Any  # (positions [B, W]) -> [B, W, D]

    def embed(self, tokens, position, nearby=None):
        return super().embed(tokens, position, nearby) + self.added(position)


def _adding(decoder: Decoder, added: Any) -> Decoder:
    return dataclasses.replace(decoder, tables=_Tables(**vars(decoder.tables), added=added))


@functools.partial(jax.jit, static_argnames=("graph", "sampler", "count", "guess"))
def _of_all_ids(params, text, keys, given, *, graph, sampler, count, guess):
    model: KeyFrameNetwork = nnx.merge(graph, params)
    s, decoder, row = model.sequence, model.network.decoder(), jnp.arange(len(text))[:, None]
    text, none = jnp.asarray(text), jnp.full((len(text), 1, s.frame_tokens), FREE)
    blank = whole_rows(text, jnp.zeros((len(text), count, s.frame_tokens), jnp.int32), s)
    blank = blank.reshape(len(text), count, s.stride)
    open_block = lambda block: jnp.concatenate([blank[:, block, : s.header], none[:, 0]], axis=1)
    policy = drafts.previous_frame if guess else drafts.nothing
    guesses = jnp.asarray(policy(2, s))

    def fill(net, tokens, guesses, reader):
        """The last block of `tokens`; the others have been read."""
        before = tokens.shape[1] - s.stride
        walk = begin(
            model.network, sampler, DecodeState(net, keys), tokens, guesses, read=before,
            prefix=s.header - 1,
        )  # fmt: skip
        walk = advance(reader, sampler, walk)
        return settle(reader, walk).net, walk.tokens[:, before : tokens.shape[1]], walk.counts.steps

    def later(block, carry):
        net, previous, frames, steps = carry
        reader = decoder
        if model.way == "features":
            old = previous[:, s.header :] - Vocab(s).frame_start
            of_places = model.around(surroundings(old, s)) @ model.read[...]

            def added(position):
                slot = (position + 1) % s.stride
                here = of_places[row, jnp.maximum(slot - s.header, 0)]
                return jnp.where(slot[..., None] >= s.header, here, 0)

            reader = _adding(decoder, added)
        tokens = jnp.concatenate([previous, open_block(block)], axis=1)
        net, newest, took = fill(net, tokens, guesses, reader)
        return net, newest, frames.at[:, block].set(newest), steps + took + 1

    net = model.network.init_state(len(text))
    if given is None:
        first = jnp.where(guesses[: s.stride] < 0, -1, guesses[: s.stride])
        net, newest, steps = fill(net, open_block(0), first, decoder)
    else:
        newest, steps = whole_rows(text, jnp.asarray(given)[:, None], s), jnp.zeros((), jnp.int32)
        net = hidden(model.network, newest, 0.0)[1]
    frames = jnp.zeros((len(text), count, s.stride), newest.dtype).at[:, 0].set(newest)
    _, _, frames, steps = jax.lax.fori_loop(1, count, later, (net, newest, frames, steps + 1))
    fed = jnp.full((len(text),), count * s.stride - 1)
    codes = frames[..., s.header :] - Vocab(s).frame_start
    return codes, jnp.zeros((len(text),)), fed, steps


@functools.partial(jax.jit, static_argnames=("graph", "sampler", "count", "guess"))
def _of_changes(params, text, keys, given, *, graph, sampler, count, guess):
    del guess
    model: KeyFrameNetwork = nnx.merge(graph, params)
    s, vocab, network = model.sequence, Vocab(model.sequence), model.network
    decoder, target = network.decoder(), model.target[...]
    rows, text = len(text), jnp.asarray(text)
    row, end = jnp.arange(rows), s.stride
    full = lambda value: jnp.full((rows,), value, jnp.int32)
    in_block = jnp.broadcast_to(jnp.arange(s.header, dtype=jnp.int32), (rows, s.header))
    place_keys = jax.vmap(lambda key: jax.random.fold_in(key, _OF_PLACES))(keys)
    cost = lambda logits, chosen: (
        jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, chosen[:, None], 1)[:, 0]
    )
    blank = whole_rows(text, jnp.zeros((rows, count, s.frame_tokens), jnp.int32), s)
    blank = blank.reshape(rows, count, s.stride)

    def choose(keys, logits, position):
        noise = gumbel(position_words(keys, position[:, None])[:, 0], logits.shape[-1])
        chosen = sampler.policy(logits.astype(jnp.float32), noise)
        return chosen, cost(logits, chosen)

    def feed(lazy, tokens, positions, added, length):
        reader = _adding(decoder, lambda _: added)
        x, keys_values = decode_cache.window(reader, tokens, lazy, positions)
        return x, decode_cache.commit(decoder, lazy, keys_values, length, positions)

    def id_at(x, old, moves, position):
        logits = decoder.tables.logits(x)
        is_old = (jnp.arange(logits.shape[-1]) == old[:, None]) & moves
        return choose(keys, jnp.where(is_old, NEVER, logits), position)

    def place_after(x, token, here, of_frame, position):
        found = lambda q: jnp.einsum("bc,bpc->bp", q, of_frame)
        scores = model.places(x, decoder.tables.embedding[token], here, found)
        place, nats = choose(place_keys, scores, position)
        return jnp.where(place < s.frame_tokens, s.header + place, end), nats

    def first_frame():
        """Its ids but the last are read, one after the other."""
        lazy = decode_cache.begin(network, network.init_state(rows), sampler.buffer)
        _, lazy = feed(
            lazy, blank[:, 0, : s.header - 1], in_block, target[in_block[:, 1:]],
            full(s.header - 1),
        )  # fmt: skip

        def step(slot, carry):
            lazy, token, codes, nats = carry
            positions = jnp.broadcast_to(jnp.stack([slot - 1, slot]), (rows, 2))
            x, lazy = feed(lazy, token[:, None], positions, target[positions[:, 1:]], full(1))
            got, paid = id_at(x[:, 0], full(0), False, positions[:, 1])
            codes = codes.at[:, slot - s.header].set(got)
            return lazy, got + vocab.frame_start, codes, nats + paid

        codes, nats = jnp.zeros((rows, s.frame_tokens), jnp.int32), jnp.zeros((rows,), target.dtype)
        carry = (lazy, blank[:, 0, s.header - 1], codes, nats)
        lazy, _, codes, nats = jax.lax.fori_loop(
            jnp.int32(s.header), jnp.int32(s.stride), step, carry
        )
        return lazy, codes, nats, jnp.int32(1 + s.frame_tokens)

    def given_frame():
        tokens = whole_rows(text, jnp.asarray(given)[:, None], s)[:, :-1]
        _, net = hidden(network, tokens, target[jnp.arange(1, s.stride)])
        lazy = decode_cache.begin(network, net, sampler.buffer)
        return lazy, jnp.asarray(given), jnp.zeros((rows,), target.dtype), jnp.int32(1)

    def later(block, carry):
        lazy, pending, at, frames, nats, fed, steps = carry
        start, old = block * s.stride, frames[:, block - 1]
        of_frame = model.keys(old)
        # The change before, and the text.
        head = start + in_block
        tokens = jnp.concatenate([pending[:, None], blank[:, block, : s.header - 1]], axis=1)
        positions = jnp.concatenate([at[:, None], head], axis=1)
        x, lazy = feed(lazy, tokens, positions, target[in_block], full(s.header))
        token = blank[:, block, s.header - 1]
        after, paid = place_after(x[:, -1], token, full(-1), of_frame, head[:, -1])

        def step(carry):
            lazy, token, at, after, new, nats, fed, steps = carry
            live, place = after < end, jnp.minimum(after - s.header, s.frame_tokens - 1)
            moves = jnp.ones((rows, 1), bool)
            added = model.toward(after % s.stride, around_place(new, old, place, s), moves[:, 0])
            positions = start + jnp.stack([at, after], axis=1)
            x, lazy = feed(lazy, token[:, None], positions, added[:, None], live.astype(jnp.int32))
            got, paid = id_at(x[:, 0], old[row, place], moves, positions[:, 1])
            next_token = got + vocab.frame_start
            then, paid_too = place_after(x[:, 0], next_token, place, of_frame, positions[:, 1])
            keep = lambda new, old: jnp.where(live, new, old)
            return (
                lazy, keep(next_token, token), keep(after, at), keep(then, after),
                new.at[row, place].set(keep(got, new[row, place])),
                nats + keep(paid + paid_too, 0), fed + live, steps + 1,
            )  # fmt: skip

        carry = (lazy, token, full(s.header - 1), after, old, nats + paid, fed, steps)
        carry = jax.lax.while_loop(lambda carry: jnp.any(carry[3] < end), step, carry)
        lazy, token, at, _, new, nats, fed, steps = carry
        frames = frames.at[:, block].set(new)
        return lazy, token, start + at, frames, nats, fed + s.header, steps + 1

    lazy, codes, nats, steps = first_frame() if given is None else given_frame()
    frames = jnp.zeros((rows, count, s.frame_tokens), jnp.int32).at[:, 0].set(codes)
    pending, all_but_last = codes[:, -1] + vocab.frame_start, full(s.stride - 1)
    carry = (lazy, pending, all_but_last, frames, nats, all_but_last, steps)
    blocks = jnp.int32(1), jnp.int32(count)
    _, _, _, frames, nats, fed, steps = jax.lax.fori_loop(*blocks, later, carry)
    return frames, nats, fed, steps
