"""Retention in three forms that give the same numbers (arXiv:2307.08621; paper eq. 1 and 2).

    R_n = gamma R_{n-1} + k_n (x) v_n        the state: unnormalized, [B, H, K, E]
    y_n = s_n^(-1/2) q_n R_n                 s_n = 1 + gamma + ... + gamma^n, n global

    parallel    all pairs at once, O(T^2): the reference, and short sequences
    chunkwise   pairs within a chunk, the state between chunks, O(T): training and prefill
    recurrent   token by token, O(T), as decoding does it: `step`, or several tokens in a `window`

      chunk 0          chunk 1          chunk 2 (ragged)
    [t t t t]  --R-->  [t t t t]  --R-->  [t t . .]  --R-->   R decays by the REAL tokens only

Each is a function (q, k, v, log_decay, state, start, length, positions) -> (y, state), told of at
`recurrent`; `FORMS` has them by name.

Tokens may be left out: over a gap in the positions the state only decays.

    position   40 41 42 43 __ __ 46 47 __ 49        R decays by gamma^3 from 43 to 46

Without positions every token follows the one before, and the decays of distances within a chunk
are constants of the program. With them they are data, and differ from row to row.

q and k come with RoPE, k scaled. `log_decay` is float64 from `ops/decay.py`, or an array where
heads are spread over devices.

One rule of rounding holds for all forms, `step`, `window` and `fold`: what a matrix product reads
has the dtype of q, k and v; sums, decays and the state that is kept are float32 (float64 where the
inputs are). With bfloat16 that rounds the scores, k times its decay, and R as it is read, never R
itself: rounded at every token, it would lose 7%. At 6,800 tokens y is then off by 3.3e-3 to 3.7e-3
(relative, after the head norm) in every form, and by 2.9e-3 to 3.3e-3 if only q, k, v and scores
were rounded. For that the products with R would have to be float32: six passes each on a TPU.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from fv_jax.config.registry import Registry
from fv_jax.ops.decay import inverse_root_sum, masked_powers
from fv_jax.ops.products import accumulator, einsum, matmul

LogDecay = tuple[float, ...] | Float[Array, " H"]
NEVER = 2**30  # a position that no token comes after: of slots that hold none
FORMS = Registry(
    "form of retention",
    {
        "parallel": "fv_jax.ops.retention:parallel",
        "chunkwise": "fv_jax.ops.retention:chunkwise",
        "recurrent": "fv_jax.ops.retention:recurrent",
    },
)


class Distances(NamedTuple):
    """How far tokens lie apart, in pieces of S tokens: all that decays depend on.

    Attributes:
        position: of every token, [.. S].
        within: from each token back to each of its piece, [.. S S] or the same for all, [S S];
            below 0 where that one comes later.
        since: from each back to the last token before its piece, [.. S] or [S].
        left: from a piece's last real token back to each, [.. S]; below 0 for padding.
        passed: from a piece's last real token back to the last one before it, [..].
    """

    position: Int[Array, "*b S"]
    within: Int[Array, "*b S S"]
    since: Int[Array, "*b S"]
    left: Int[Array, "*b S"]
    passed: Int[Array, "*b"]


def distances(
    start: Int[Array, " B"],
    length: Int[Array, " B"],
    tokens: int,
    size: int,
    positions: Int[Array, "B T"] | None = None,
) -> Distances:
    """Those of the next `tokens` tokens in pieces of `size`: [N, B, ..] each, N pieces.

    Args:
        start: the position after the last token that the state has seen.
        length: real tokens of each row.
        tokens: T.
        size: S, at most T; the last piece is filled up.
        positions: of the tokens, see `recurrent`.
    """
    pieces, i = -(-tokens // size) if tokens else 1, jnp.arange(size)
    first = jnp.arange(pieces)[:, None] * size
    real = jnp.clip(length - first, 0, size)[..., None]  # [N, B, 1]
    if positions is None:
        position = (start + first)[..., None] + i
        return Distances(position, i[:, None] - i, i + 1, real - 1 - i, real[..., 0])
    position = jnp.pad(positions, ((0, 0), (0, pieces * size - tokens)), mode="edge")
    position = position.reshape(len(position), pieces, size).swapaxes(0, 1)
    seen = jnp.minimum(length[:, None], jnp.arange(pieces + 1) * size)
    ends = _last(start, seen, positions).T  # [N + 1, B]
    within = position[..., :, None] - position[..., None, :]
    return Distances(
        position,
        jnp.where(i[:, None] >= i, within, -1),
        position - ends[:-1, :, None],
        jnp.where(i < real, ends[1:, :, None] - position, -1),
        ends[1:] - ends[:-1],
    )


def end(
    start: Int[Array, " B"], length: Int[Array, " B"], positions: Int[Array, "B T"] | None = None
) -> Int[Array, " B"]:
    """The position after the first `length` of the next tokens; `start` where that is 0."""
    if positions is None:
        return start + length
    return _last(start, length[:, None], positions)[:, 0] + 1


def parallel(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B T H K"],
    v: Float[Array, "B T H E"],
    log_decay: LogDecay,
    state: Float[Array, "B H K E"],
    start: Int[Array, " B"],
    length: Int[Array, " B"],
    positions: Int[Array, "B T"] | None = None,
) -> tuple[Float[Array, "B T H E"], Float[Array, "B H K E"]]:
    """As `recurrent`, all pairs of the T tokens at once: eq. 1, a masked matmul."""
    dtype = accumulator(q)
    gamma = jnp.asarray(log_decay, dtype)
    apart = distances(start, length, q.shape[1], q.shape[1], positions)
    # One piece: its axis is taken away, but for what is the same for all rows.
    within, since = (x if positions is None else x[0] for x in (apart.within, apart.since))
    scores = einsum("bnhk,bmhk->bhnm", q, k) * _heads_first(masked_powers(gamma, within), 2)
    y = einsum("bhnm,bmhe->bnhe", scores.astype(v.dtype), v)
    before = einsum("bnhk,bhke->bnhe", q, state.astype(q.dtype))
    y = y + before * masked_powers(gamma, since)[..., None]
    y = y * inverse_root_sum(gamma, apart.position[0])[..., None]
    return y, fold(k, v, log_decay, state, length, start, positions)


def chunkwise(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B T H K"],
    v: Float[Array, "B T H E"],
    log_decay: LogDecay,
    state: Float[Array, "B H K E"],
    start: Int[Array, " B"],
    length: Int[Array, " B"],
    chunk: int = 128,
    positions: Int[Array, "B T"] | None = None,
) -> tuple[Float[Array, "B T H E"], Float[Array, "B H K E"]]:
    """As `recurrent`, `chunk` tokens at once.

    Raises:
        ValueError: chunk below 1.
    """
    if chunk < 1:
        raise ValueError(f"chunk must be >= 1 token, got {chunk}")
    b, t, h, _ = q.shape
    dtype = accumulator(q)
    gamma = jnp.asarray(log_decay, dtype)
    chunks = max(1, -(-t // chunk))
    size = max(1, -(-t // chunks))  # as even as they can be: less padding
    start, length = (jnp.broadcast_to(x, (b,)) for x in (start, length))
    apart = distances(start, length, t, size, positions)

    def split(x):  # [B, T, H, *] -> [chunks, B, H, S, *]
        x = jnp.pad(x, ((0, 0), (0, chunks * size - t), (0, 0), (0, 0)))
        return x.reshape(b, chunks, size, h, -1).transpose(1, 0, 3, 2, 4)

    q, k, v = split(q), split(k), split(v)
    # Within chunks: all of them at once.
    scores = einsum("nbhik,nbhjk->nbhij", q, k)
    scores = scores * _heads_first(masked_powers(gamma, apart.within), 2)
    scores = checkpoint_name(scores.astype(v.dtype), "retention")
    inner = einsum("nbhij,nbhje->nbhie", scores, v)
    # What each chunk adds to the state. Padding has weight 0.
    weight = _heads_first(masked_powers(gamma, apart.left), 1)[..., None]
    added = einsum("nbhjk,nbhje->nbhke", (k * weight).astype(k.dtype), v)
    # [chunks, B, H, 1, 1]
    decayed = jnp.exp(apart.passed.astype(dtype)[..., None] * gamma)[..., None, None]

    def carry(state_BHKE, inputs):
        decay_c, added_c = inputs
        return state_BHKE * decay_c + added_c, state_BHKE

    # Between chunks: only the state is sequential.
    state, before = jax.lax.scan(carry, state, (decayed, added))
    before = checkpoint_name(before.astype(q.dtype), "retention")
    cross = einsum("nbhik,nbhke->nbhie", q, before)
    cross = cross * _heads_first(masked_powers(gamma, apart.since), 1)[..., None]
    scale = _heads_first(inverse_root_sum(gamma, apart.position), 1)[..., None]
    y = ((inner + cross) * scale).transpose(1, 0, 3, 2, 4)
    return y.reshape(b, chunks * size, h, -1)[:, :t], state


def recurrent(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B T H K"],
    v: Float[Array, "B T H E"],
    log_decay: LogDecay,
    state: Float[Array, "B H K E"],
    start: Int[Array, " B"],
    length: Int[Array, " B"],
    positions: Int[Array, "B T"] | None = None,
) -> tuple[Float[Array, "B T H E"], Float[Array, "B H K E"]]:
    """y of the next T tokens after `state`, and the state after each row's real tokens.

    One `lax.scan` of `step`: eq. 2 as it is written.

    Args:
        q: queries, with RoPE.
        k: keys, with RoPE and scaled.
        v: values.
        log_decay: log gamma of each head.
        state: R after the tokens before these; zeros at the start of a sequence.
        start: the position after the last of these, which without `positions` is that of each
            row's first token.
        length: real tokens of each row, 0..T; the rest is padding, whose y means nothing.
        positions: global ones of all tokens, from `start` on and increasing over the real ones;
            padding has any from 0 on. None means one after the other.
    """
    n = jnp.arange(q.shape[1])
    by_token = [x.swapaxes(0, 1) for x in (q, k, v)]
    if positions is not None:
        before = jnp.concatenate([start[:, None] - 1, positions[:, :-1]], axis=1)
        by_token += [positions.T, (positions - before).T]

    def token(state, inputs):
        n, *qkv = inputs
        position, passed = qkv[3:] or (start + n, None)
        y, state = step(*qkv[:3], log_decay, state, position, n < length, passed)
        return state, y

    state, y = jax.lax.scan(token, state, (n, *by_token))
    return y.swapaxes(0, 1), state


def step(
    q: Float[Array, "B H K"],
    k: Float[Array, "B H K"],
    v: Float[Array, "B H E"],
    log_decay: LogDecay,
    state: Float[Array, "B H K E"],
    position: Int[Array, " B"],
    real: Bool[Array, " B"] | None = None,
    passed: Int[Array, " B"] | None = None,
) -> tuple[Float[Array, "B H E"], Float[Array, "B H K E"]]:
    """y of one token at `position`, and the state after it; a row that is not `real` keeps its own.

    `passed` is how far the token lies behind the last one that the state has seen, None for 1.

    Where it is decided changes the error: a choice after the sum would keep the compiler from
    rounding product and sum at once, which matters to heads that hardly decay.
    """
    dtype = accumulator(q)
    gamma = jnp.asarray(log_decay, dtype)
    decay = gamma if passed is None else jnp.maximum(passed, 0).astype(dtype)[:, None] * gamma
    decay = jnp.exp(decay)[..., None, None]
    outer = k[..., :, None].astype(dtype) * v[..., None, :].astype(dtype)
    if real is not None:
        counts = real[:, None, None, None]
        decay, outer = jnp.where(counts, decay, 1), jnp.where(counts, outer, 0)
    state = state * decay + outer
    y = einsum("bhk,bhke->bhe", q, state.astype(q.dtype))
    return y * inverse_root_sum(gamma, position)[..., None], state


def window(
    q: Float[Array, "B W H K"],
    k: Float[Array, "B W H K"],
    v: Float[Array, "B W H E"],
    log_decay: LogDecay,
    state: Float[Array, "B H K E"],
    recent_k: Float[Array, "B M H K"],
    recent_v: Float[Array, "B M H E"],
    recent_positions: Int[Array, "B M"],
    folded: Int[Array, " B"],
    start: Int[Array, " B"],
    positions: Int[Array, "B W"] | None = None,
) -> Float[Array, "B W H E"]:
    """y of the next W tokens; nothing is written, so any prefix of them may be kept.

    The past is R and, of the tokens after those that R has seen, k and v: the lazy state. The
    caller adds k and v to `recent` for the tokens that it keeps, and calls `fold_slots` when that
    is full; or, with M = 0, folds them into R at once. Reading R once and writing it once per M
    tokens moves about half of the bytes of `step`.

    Args:
        state: R.
        recent_k: keys of the tokens that R has not seen. M may be 0.
        recent_v: their values.
        recent_positions: their positions; `NEVER` for a slot that means nothing, wherever it is.
        folded: the position after the last token that R has seen.
        start: the position after the last of all tokens so far.
        positions: of the new tokens, from `start` on and increasing; None means one after the
            other.
    """
    dtype = accumulator(q)
    gamma = jnp.asarray(log_decay, dtype)
    tokens = q.shape[1]
    apart = distances(start, jnp.full_like(start, tokens), tokens, tokens, positions)
    within, position = apart.within if positions is None else apart.within[0], apart.position[0]
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))  # heads first: plain batched matmuls
    new = matmul(q, k.swapaxes(2, 3)) * _heads_first(masked_powers(gamma, within), 2)
    age = position - (folded - 1)[:, None]
    y = matmul(q, state.astype(q.dtype)) * _heads_first(masked_powers(gamma, age), 1)[..., None]
    y = y + matmul(new.astype(v.dtype), v)
    if recent_k.shape[1]:
        recent_k, recent_v = recent_k.swapaxes(1, 2), recent_v.swapaxes(1, 2)
        since = position[..., None] - recent_positions[:, None]  # [B, W, M]
        old = matmul(q, recent_k.swapaxes(2, 3)) * _heads_first(masked_powers(gamma, since), 2)
        y = y + matmul(old.astype(v.dtype), recent_v)
    return y.swapaxes(1, 2) * inverse_root_sum(gamma, position)[..., None]


def fold(
    k: Float[Array, "B T H K"],
    v: Float[Array, "B T H E"],
    log_decay: LogDecay,
    state: Float[Array, "B H K E"],
    length: Int[Array, " B"],
    start: Int[Array, " B"],
    positions: Int[Array, "B T"] | None = None,
) -> Float[Array, "B H K E"]:
    """R after the first `length` (0..T, per row) of the T tokens that follow it.

    `start` and `positions` are those of `recurrent`.
    """
    apart = distances(start, length, k.shape[1], k.shape[1], positions)
    return fold_slots(k, v, log_decay, state, apart.left[0], apart.passed[0])


def fold_slots(
    k: Float[Array, "B T H K"],
    v: Float[Array, "B T H E"],
    log_decay: LogDecay,
    state: Float[Array, "B H K E"],
    left: Int[Array, "B T"],
    passed: Int[Array, " B"],
) -> Float[Array, "B H K E"]:
    """R after some of T tokens.

    `left` is how far the last token lies behind each of them, below 0 for those that do not count;
    `passed` how far behind the last one that R has seen.
    """
    gamma = jnp.asarray(log_decay, accumulator(k))
    weighted = (k * masked_powers(gamma, left)[..., None]).astype(k.dtype)
    decay = jnp.exp(passed.astype(gamma.dtype)[:, None] * gamma)
    added = matmul(weighted.transpose(0, 2, 3, 1), v.swapaxes(1, 2))
    return state * decay[..., None, None] + added


def init_state(batch: int, heads: int, key_dim: int, value_dim: int, dtype=jnp.float32):
    """R before the first token: zeros [B, H, K, E]."""
    return jnp.zeros((batch, heads, key_dim, value_dim), dtype)


def _heads_first(x: Array, tokens: int) -> Array:
    """[..., S.., H] to [..., H, S..], past the last `tokens` token axes."""
    return jnp.moveaxis(x, -1, -1 - tokens)


def _last(
    start: Int[Array, " B"], length: Int[Array, "B _"], positions: Int[Array, "B T"]
) -> Int[Array, "B _"]:
    """The position of the last of the first `length` tokens; before `start` where there is none."""
    after_none = jnp.concatenate([start[:, None] - 1, positions], axis=1)
    return jnp.take_along_axis(after_none, length, axis=1)
