"""Window decoding: the one sampler (speculative sampling, arXiv:2302.01318).

Every position of a sequence is known, guessed or open. A step feeds a window of up to W tokens,
of which the first is known and the others known or guessed, and keeps the longest prefix that
holds:

    tokens   .. t  t | k  g  g  g |  .          k known, g guessed (known ids always hold)
    sampled          |    s  s  s    s          what the policy chooses after each fed token
    kept     .. t  t   k  s  s' -  -            the 2nd guess was wrong: its sample replaces it

A guess holds if it is what would have been sampled there. The randomness of a position is a
function of the request's key and the position, so the tokens are those of W = 1, the paper's
token-by-token recurrence (section 3.1), whatever the window, the guesses and the batch, up to
ties in floating point. That is of float32. In bfloat16 matmuls of other shapes round otherwise,
often enough that some videos change; there the distribution is the same, not the ids, and
`Options.float32` samples in float32.

Where a guess comes from: an earlier place (`generation/drafts.py`), or, once a window has reached
over the place, what it sampled there. That sample followed a wrong guess, but mostly it stands
(as in Jacobi decoding, arXiv:2305.10427).

All of it is one `lax.while_loop` in one jitted call, or, where somebody looks on, the same loop in
several: `begin`, `advance` by so many steps again and again, `settle`. Rows advance at their own
pace. The state is lazy (`models/decode_cache.py`): a window writes nothing, its kept tokens are
committed afterwards.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, struct
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from fv_jax.config.model import SequenceConfig
from fv_jax.generation.policies import Policy, Sampling, gumbel, position_words
from fv_jax.models import decode_cache
from fv_jax.models.retnet import Decoder, RetNetState
from fv_jax.models.tables import Leaf
from fv_jax.sequence.nearby import NONE
from fv_jax.sequence.vocab import FREE, PAD, Vocab


@dataclasses.dataclass(frozen=True)
class Sampler:
    """What is fixed when the sampler is compiled.

    Attributes:
        sequence: layout of the tokens.
        policy: how ids are chosen.
        window: W, tokens fed per step.
        guidance: G of classifier-free guidance over the text (arXiv:2207.12598): scores are
            `u + G (c - u)`, c with the text and u without. 1 is none; else every row is read twice.
        buffer: slots of the lazy state (`models/decode_cache.py`), 0 or at least W. It changes the
            time alone: with slots the state is written less often, which pays where it does not
            fit into a cache.
    """

    sequence: SequenceConfig
    policy: Policy = Sampling()
    window: int = 1
    guidance: float = 1.0
    buffer: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.window <= self.sequence.stride:
            raise ValueError(f"window must be in 1..{self.sequence.stride}, got {self.window}")
        if self.guidance < 0:
            raise ValueError(f"guidance must be >= 0 (1 is none), got {self.guidance}")
        if self.buffer and self.buffer < self.window:
            raise ValueError(f"buffer must be 0 or >= window={self.window}, got {self.buffer}")

    @property
    def readings(self) -> int:
        """Rows of the network per row of tokens."""
        return 1 if self.guidance == 1 else 2


@struct.dataclass
class DecodeState:
    """Everything needed to go on generating; a pytree of arrays, donated to `decode`.

    Attributes:
        net: retention state of all layers and the position of every row; with guidance, of the
            rows with their text and then of the same rows without.
        keys: one typed PRNG key per row, [B]. Position p draws from `fold_in(key, p)`, so a key is
            never used up.
    """

    net: RetNetState
    keys: Leaf


@struct.dataclass
class Feed:
    """Which places of each row are fed, where the network does without some.

    Attributes:
        places: of tokens, rising over the first `length` of a row, [B, T] int32.
        length: of each row's list, [B] int32. What comes after it is sampled, but not fed.
        known: how many of a row are known at its beginning, [B] int32; None for the call's
            `prefix`, of whose places then none is left out.
    """

    places: Leaf
    length: Leaf
    known: Leaf | None


@struct.dataclass
class Counts:
    """What one call did.

    Attributes:
        steps: sequential steps.
        drafted: guesses that were tried, per row.
        accepted: of these, the ones that held.
    """

    steps: Leaf
    drafted: Leaf
    accepted: Leaf


@struct.dataclass
class Walk:
    """Where the loop is, and what it looks up: all that lies between two calls of `advance`.

    Attributes:
        lazy: what the network remembers (`decode_cache.LazyState`).
        tokens: FREE where not decided, [B, T + W + 1] int32.
        drafts: guesses that earlier windows left, and what is known, likewise.
        at: how many tokens, or places of `listed`, each row has behind it, [B] int32.
        counts: what was done.
        end: where each row ends, [B] int32.
        guesses: as `decode_tokens` gets them, [T + W + 1].
        words: random words of all places (`policies.position_words`).
        listed: places that are fed, [B, T + W + 1] int32; None for all.
        neighbors: the places that each place knows, [T + W + 1, nearby]; None where none is read.
        keys: of the rows.
    """

    lazy: Any
    tokens: Leaf
    drafts: Leaf
    at: Leaf
    counts: Counts
    end: Leaf
    guesses: Leaf
    words: Leaf
    listed: Leaf | None
    neighbors: Leaf | None
    keys: Leaf


def start(model: Any, sampler: Sampler, seeds: list[tuple[Any, ...]]) -> DecodeState:
    """The state before any token, one row per seed.

    A seed is the request's number followed by what tells this row from the request's others
    (stage, level, gap), each folded into the key: integers, which may be traced.
    """
    # Numbers that are known go to the device with the call, not each on its own.
    word = lambda n: n.astype(jnp.uint32) if isinstance(n, Tracer) else np.uint32(n)
    keys = _keys([[word(number) for number in seed] for seed in seeds])
    return DecodeState(model.init_state(len(seeds) * sampler.readings), keys)


@jax.jit
def _keys(seeds: list[list[Array]]) -> Array:
    folded = (functools.reduce(jax.random.fold_in, rest, jax.random.key(s)) for s, *rest in seeds)
    return jnp.stack(list(folded))


def decode_tokens(
    model: Any,
    sampler: Sampler,
    state: DecodeState,
    tokens: Int[Array, "B T"],
    guesses: Int[Array, " T"],
    feed: Feed | None = None,
    neighbors: Int[Array, "T nearby"] | None = None,
    *,
    read: int = 0,
    prefix: int = 0,
) -> tuple[Int[Array, "B T"], DecodeState, Counts]:
    """Replace every FREE token.

    Args:
        model: a `RetNet`.
        sampler: policy and window.
        state: `start` or an earlier call's result.
        tokens: whole blocks of vocabulary ids, or FREE; the first one is known.
        guesses: for each place, the earlier place whose id is its guess, or -1 for none
            (`generation/drafts.py`).
        feed: the places of known or wanted tokens that the network reads, if it is not all; the
            others are known. The state must be that before any token.
        neighbors: for a network that reads ids nearby, the places that each place knows
            (`sequence/nearby.py`).
        read: leading tokens that `state` has seen already; they are here for the guesses.
        prefix: known tokens after these (at most, where `feed` says how many), read by one
            chunkwise call.

    Returns:
        tokens, the state after the last of them that was fed, and counts.
    """
    walk = begin(model, sampler, state, tokens, guesses, feed, neighbors, read=read, prefix=prefix)
    decoder = model.decoder()
    walk = advance(decoder, sampler, walk)
    state = settle(decoder, walk)
    return walk.tokens[:, : tokens.shape[1]], state, walk.counts


def begin(
    model: Any,
    sampler: Sampler,
    state: DecodeState,
    tokens: Int[Array, "B T"],
    guesses: Int[Array, " T"],
    feed: Feed | None = None,
    neighbors: Int[Array, "T nearby"] | None = None,
    *,
    read: int = 0,
    prefix: int = 0,
) -> Walk:
    """What stands before the first open place is read; arguments are those of `decode_tokens`."""
    rows, length = tokens.shape
    window = sampler.window
    net = state.net
    position = net.position[:rows, None] + jnp.arange(length + window + 1) - read
    words = position_words(state.keys, position)
    listed = None
    # Past the end lie known tokens, so that a window may reach over it.
    tokens = jnp.pad(tokens, ((0, 0), (0, window + 1)))
    guesses = jnp.pad(guesses, (0, window + 1), constant_values=-1)
    if neighbors is not None:
        neighbors = jnp.pad(neighbors, ((0, window + 1), (0, 0)), constant_values=-1)
    at, end = jnp.full((rows,), read + prefix), jnp.full((rows,), length)
    if feed is not None:
        past = jnp.arange(length + window + 1) - feed.length[:, None]
        listed = jnp.pad(feed.places, ((0, 0), (0, window + 1)))
        # What is sampled last follows what is fed last.
        listed = jnp.where(past > 0, length + jnp.minimum(past, window) - 1, listed)
        at, end = at if feed.known is None else feed.known, feed.length
    if prefix:
        plain = feed is None or feed.known is None
        first = jnp.broadcast_to(read + jnp.arange(prefix + 1), (rows, prefix + 1))
        first = first if plain else listed[:, : prefix + 1]
        known = readings(sampler, look_up(tokens, first[:, :-1]), first[:, :-1])
        nearby = codes_around(sampler, tokens, neighbors, first[:, 1:])
        ragged = () if plain else (every_reading(sampler, at), every_reading(sampler, first))
        _, net = model.chunkwise(known, net, *ragged, nearby=nearby)
    none = jnp.zeros((rows,), jnp.int32)
    lazy = decode_cache.begin(model, net, sampler.buffer)
    counts = Counts(jnp.zeros((), jnp.int32), none, none)
    return Walk(
        lazy, tokens, tokens, at, counts, end, guesses, words, listed, neighbors, state.keys
    )


def advance(decoder: Decoder, sampler: Sampler, walk: Walk, most: Any = None) -> Walk:
    """Go on until every row is at its end, or for so many steps."""
    window, vocab = sampler.window, Vocab(sampler.sequence)
    end, guesses, listed = walk.end, walk.guesses, walk.listed
    every = functools.partial(every_reading, sampler)
    row = jnp.arange(len(end))[:, None]

    def put(whole, new, at, places):
        if listed is None:
            update = functools.partial(jax.lax.dynamic_update_slice_in_dim, axis=0)
            return jax.vmap(update)(whole, new, at)
        return whole.at[row, places].set(new)

    def step(carry):
        lazy, tokens, drafts, at, counts = carry
        places = at[:, None] + jnp.arange(window + 1)
        if listed is not None:
            places = look_up(listed, places)
        here, offered, source = look_up(tokens, places), look_up(drafts, places), guesses[places]
        copied = jnp.where(source < 0, FREE, look_up(drafts, jnp.maximum(source, 0)))
        offered = jnp.where(offered == FREE, copied, offered)
        some = offered != FREE
        following = (at + 1, places[:, 1:])

        fed = readings(sampler, jnp.maximum(offered[:, :window], 0), places[:, :window])
        positions = None if listed is None else every(places)
        # What a later frame of the window knows may be among its guesses.
        view = tokens if walk.neighbors is None else put(tokens, offered[:, 1:], *following)
        nearby = codes_around(sampler, view, walk.neighbors, places[:, 1:])
        hidden, keys_values = decode_cache.window(decoder, fed, lazy, positions, nearby)
        logits = guided(sampler, decoder.tables.logits(hidden, nearby).astype(jnp.float32))
        noise = gumbel(look_up(walk.words, places[:, 1:, None]), logits.shape[-1])
        sampled = sampler.policy(logits, noise) + vocab.frame_start
        right = jnp.where(here[:, 1:] == FREE, sampled, here[:, 1:])

        holds = jnp.cumprod(offered[:, 1:window] == right[:, : window - 1], axis=1)
        kept = jnp.minimum(1 + holds.sum(axis=1, dtype=jnp.int32), end - at)
        among = jnp.arange(window)
        tokens = put(tokens, jnp.where(among < kept[:, None], right, here[:, 1:]), *following)
        # What was sampled beyond a miss is a guess, if all it has read was known or guessed.
        guided_by = jnp.cumprod(some[:, :window], axis=1) > 0
        drafts = put(drafts, jnp.where(guided_by, right, here[:, 1:]), *following)

        # No id is below 0. To ask makes what is kept depend on what was read of R: else XLA may
        # write R before that, and copies all of it at each step.
        kept = jnp.where(right[:, 0] >= 0, kept, 0)
        lazy = decode_cache.commit(decoder, lazy, keys_values, every(kept), positions)
        guessed = (here == FREE) & some
        tried = guessed[:, :window] & (among <= kept[:, None]) & (kept > 0)[:, None]
        counts = Counts(
            counts.steps + 1,
            counts.drafted + tried.sum(axis=1, dtype=jnp.int32),
            counts.accepted + (tried & (among < kept[:, None])).sum(axis=1, dtype=jnp.int32),
        )
        return lazy, tokens, drafts, at + kept, counts

    def unfinished(carry):
        *_, at, counts = carry
        some = jnp.any(at < end)
        return some if most is None else some & (counts.steps < walk.counts.steps + most)

    carry = walk.lazy, walk.tokens, walk.drafts, walk.at, walk.counts
    lazy, tokens, drafts, at, counts = jax.lax.while_loop(unfinished, step, carry)
    return walk.replace(lazy=lazy, tokens=tokens, drafts=drafts, at=at, counts=counts)


def settle(decoder: Decoder, walk: Walk) -> DecodeState:
    """The state after the last token that was fed."""
    return DecodeState(decode_cache.settle(decoder, walk.lazy), walk.keys)


def look_up(values: Array, places: Int[Array, "B W *_"]) -> Array:
    """What stands at places of each row."""
    return jnp.take_along_axis(values, places, axis=1)


def codes_around(
    sampler: Sampler, tokens: Int[Array, "B T"], neighbors: Int[Array, "_ nearby"] | None,
    places: Int[Array, "B W"],
) -> Int[Array, "R W nearby"] | None:  # fmt: skip
    """The codes around places, as far as they are decided; `NONE` where there are none."""
    if neighbors is None:
        return None
    there = neighbors[places]
    ids = jax.vmap(lambda row, at: row[jnp.maximum(at, 0)])(tokens, there)
    codes = jnp.maximum(ids - Vocab(sampler.sequence).frame_start, NONE)
    return every_reading(sampler, jnp.where(there < 0, NONE, codes))


def every_reading(sampler: Sampler, x: Array) -> Array:
    """Rows of tokens as rows of the network."""
    return jnp.tile(x, (sampler.readings, *[1] * (x.ndim - 1)))


def readings(
    sampler: Sampler, tokens: Int[Array, "B W"], places: Int[Array, "#B W"]
) -> Int[Array, "R W"]:
    """The rows that the network reads: with guidance, once more without their text."""
    if sampler.readings == 1:
        return tokens
    text = places % sampler.sequence.stride < sampler.sequence.text_tokens
    return jnp.concatenate([tokens, jnp.where(text, PAD, tokens)])


def guided(sampler: Sampler, logits: Float[Array, "R *b V"]) -> Float[Array, "B *b V"]:
    """One score per id from those of all readings."""
    if sampler.readings == 1:
        return logits
    with_text, without = jnp.split(logits, 2)
    return without + sampler.guidance * (with_text - without)


@functools.partial(
    jax.jit, static_argnames=("graph", "sampler", "read", "prefix"), donate_argnames="state"
)
def decode(
    params: Any,
    state: DecodeState,
    tokens: Array,
    guesses: Array,
    feed: Feed | None = None,
    neighbors: Array | None = None,
    *,
    graph: nnx.GraphDef,
    sampler: Sampler,
    read: int = 0,
    prefix: int = 0,
) -> tuple[Int[Array, "B T"], DecodeState, Counts]:
    """`decode_tokens`, jitted, with the model given as parameters and graph."""
    model = nnx.merge(graph, params)
    return decode_tokens(
        model, sampler, state, tokens, guesses, feed, neighbors, read=read, prefix=prefix
    )


@functools.partial(jax.jit, static_argnames=("graph", "sampler", "read", "prefix"))
def begin_watched(
    params: Any,
    state: DecodeState,
    tokens: Array,
    guesses: Array,
    feed: Feed | None = None,
    neighbors: Array | None = None,
    *,
    graph: nnx.GraphDef,
    sampler: Sampler,
    read: int = 0,
    prefix: int = 0,
) -> Walk:
    """`begin`, jitted."""
    model = nnx.merge(graph, params)
    return begin(model, sampler, state, tokens, guesses, feed, neighbors, read=read, prefix=prefix)


@functools.partial(jax.jit, static_argnames="graph")
def make_decoder(params: Any, *, graph: nnx.GraphDef) -> Decoder:
    """`RetNet.decoder`, jitted."""
    return nnx.merge(graph, params).decoder()


@functools.partial(jax.jit, static_argnames="sampler", donate_argnames="walk")
def advance_watched(
    decoder: Decoder, walk: Walk, most: Array, *, sampler: Sampler
) -> tuple[Walk, Int[Array, "B T"], Int[Array, ""], Bool[Array, ""]]:
    """`advance`, jitted; also the tokens, the steps so far, and whether any row goes on.

    These are arrays of their own: they may be read while the next call has the walk.
    """
    walk = advance(decoder, sampler, walk, most)
    whole = walk.tokens[:, : -sampler.window - 1]
    return walk, whole, walk.counts.steps + 0, jnp.any(walk.at < walk.end)


@functools.partial(jax.jit, static_argnames="sampler")
def settle_watched(decoder: Decoder, walk: Walk, *, sampler: Sampler) -> tuple[DecodeState, Counts]:
    """`settle`, jitted; also the counts."""
    del sampler  # says how large the walk's arrays are
    return settle(decoder, walk), walk.counts
