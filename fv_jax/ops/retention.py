"""Retention in three forms that give the same numbers (arXiv:2307.08621; paper eq. 1 and 2).

    R_n = gamma R_{n-1} + k_n (x) v_n        the state: unnormalized, [B, H, K, E]
    y_n = s_n^(-1/2) q_n R_n                 s_n = 1 + gamma + ... + gamma^n, n global

    parallel    all pairs at once, O(T^2): the reference, and short sequences
    chunkwise   pairs within a chunk, the state between chunks, O(T): training and prefill
    recurrent   token by token, O(T), as decoding does it: `step`, or several tokens in a `window`

      chunk 0          chunk 1          chunk 2 (ragged)
    [t t t t]  --R-->  [t t t t]  --R-->  [t t . .]  --R-->   R decays by the REAL tokens only

Each is a function (q, k, v, log_decay, state, start, length) -> (y, state), told of at
`recurrent`; `FORMS` has them by name.

q and k come with RoPE, k scaled. `log_decay` is float64 from `ops/decay.py`, or an array where
heads are spread over devices.

One rule of rounding holds for all forms, `step`, `window` and `fold`: what a matrix product reads
has the dtype of q, k and v; sums, decays and the state that is kept are float32 (float64 where the
inputs are). With bfloat16 that rounds the scores, k times its decay, and R as it is read, never R
itself: rounded at every token, it would lose 7%. At 6,800 tokens y is then off by 3.3e-3 to 3.7e-3
(relative, after the head norm) in every form, and by 2.9e-3 to 3.3e-3 if only q, k, v and scores
were rounded. For that the products with R would have to be float32: six passes each on a TPU.
"""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from fv_jax.config.registry import Registry
from fv_jax.ops.decay import inverse_root_sum, masked_powers
from fv_jax.ops.products import accumulator, einsum, matmul

LogDecay = tuple[float, ...] | Float[Array, " H"]
FORMS = Registry(
    "form of retention",
    {
        "parallel": "fv_jax.ops.retention:parallel",
        "chunkwise": "fv_jax.ops.retention:chunkwise",
        "recurrent": "fv_jax.ops.retention:recurrent",
    },
)


def parallel(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B T H K"],
    v: Float[Array, "B T H E"],
    log_decay: LogDecay,
    state: Float[Array, "B H K E"],
    start: Int[Array, " B"],
    length: Int[Array, " B"],
) -> tuple[Float[Array, "B T H E"], Float[Array, "B H K E"]]:
    """As `recurrent`, all pairs of the T tokens at once: eq. 1, a masked matmul."""
    dtype = accumulator(q)
    gamma = jnp.asarray(log_decay, dtype)
    n = jnp.arange(q.shape[1])
    powers = _heads_first(masked_powers(gamma, n[:, None] - n), 2)  # [H, T, T]
    scores = einsum("bnhk,bmhk->bhnm", q, k) * powers
    y = einsum("bhnm,bmhe->bnhe", scores.astype(v.dtype), v)
    before = einsum("bnhk,bhke->bnhe", q, state.astype(q.dtype))
    y = y + before * masked_powers(gamma, n + 1)[..., None]
    y = y * inverse_root_sum(gamma, start[:, None] + n)[..., None]
    return y, fold(k, v, log_decay, state, length)


def chunkwise(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B T H K"],
    v: Float[Array, "B T H E"],
    log_decay: LogDecay,
    state: Float[Array, "B H K E"],
    start: Int[Array, " B"],
    length: Int[Array, " B"],
    chunk: int = 128,
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
    size = max(1, min(chunk, t))
    chunks = -(-t // size)
    i = jnp.arange(size)
    first = jnp.arange(chunks)[:, None] * size  # of each chunk, [chunks, 1]
    real = jnp.clip(jnp.broadcast_to(length, (b,)) - first, 0, size)  # [chunks, B]
    position = (jnp.broadcast_to(start, (b,)) + first)[..., None] + i  # [chunks, B, S]

    def split(x):  # [B, T, H, *] -> [chunks, B, H, S, *]
        x = jnp.pad(x, ((0, 0), (0, chunks * size - t), (0, 0), (0, 0)))
        return x.reshape(b, chunks, size, h, -1).transpose(1, 0, 3, 2, 4)

    q, k, v = split(q), split(k), split(v)
    # Within chunks: all of them at once.
    scores = einsum("nbhik,nbhjk->nbhij", q, k)
    scores = scores * _heads_first(masked_powers(gamma, i[:, None] - i), 2)
    scores = checkpoint_name(scores.astype(v.dtype), "retention")
    inner = einsum("nbhij,nbhje->nbhie", scores, v)
    # What each chunk adds to the state. Padding has weight 0.
    weight = _heads_first(masked_powers(gamma, real[..., None] - 1 - i), 1)[..., None]
    added = einsum("nbhjk,nbhje->nbhke", (k * weight).astype(k.dtype), v)
    # [chunks, B, H, 1, 1]
    decayed = jnp.exp(real.astype(dtype)[..., None] * gamma)[..., None, None]

    def carry(state_BHKE, inputs):
        decay_c, added_c = inputs
        return state_BHKE * decay_c + added_c, state_BHKE

    # Between chunks: only the state is sequential.
    state, before = jax.lax.scan(carry, state, (decayed, added))
    before = checkpoint_name(before.astype(q.dtype), "retention")
    cross = einsum("nbhik,nbhke->nbhie", q, before)
    cross = cross * masked_powers(gamma, i + 1).T[..., None]
    scale = _heads_first(inverse_root_sum(gamma, position), 1)[..., None]
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
) -> tuple[Float[Array, "B T H E"], Float[Array, "B H K E"]]:
    """y of the next T tokens after `state`, and the state after each row's real tokens.

    One `lax.scan` of `step`: eq. 2 as it is written.

    Args:
        q: queries, with RoPE.
        k: keys, with RoPE and scaled.
        v: values.
        log_decay: log gamma of each head.
        state: R after the tokens before these; zeros at the start of a sequence.
        start: global position of each row's first token.
        length: real tokens of each row, 0..T; the rest is padding, whose y means nothing.
    """

    def token(state, inputs):
        *qkv, n = inputs
        y, state = step(*qkv, log_decay, state, start + n, n < length)
        return state, y

    by_token = [x.swapaxes(0, 1) for x in (q, k, v)]
    state, y = jax.lax.scan(token, state, (*by_token, jnp.arange(q.shape[1])))
    return y.swapaxes(0, 1), state


def step(
    q: Float[Array, "B H K"],
    k: Float[Array, "B H K"],
    v: Float[Array, "B H E"],
    log_decay: LogDecay,
    state: Float[Array, "B H K E"],
    position: Int[Array, " B"],
    real: Bool[Array, " B"] | None = None,
) -> tuple[Float[Array, "B H E"], Float[Array, "B H K E"]]:
    """y of one token at `position`, and the state after it; a row that is not `real` keeps its own.

    Where it is decided changes the error: a choice after the sum would keep the compiler from
    rounding product and sum at once, which matters to heads that hardly decay.
    """
    dtype = accumulator(q)
    gamma = jnp.asarray(log_decay, dtype)
    decay = jnp.exp(gamma)[:, None, None]
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
    count: Int[Array, " B"],
    position: Int[Array, " B"],
) -> Float[Array, "B W H E"]:
    """y of the next W tokens; nothing is written, so any prefix of them may be kept.

    The past is R, which has seen all tokens but the last `count`, and those tokens' own k and v:
    the lazy state. The caller adds k and v to `recent` for as many tokens as it keeps, and calls
    `fold` when that is full; or, with M = 0, folds them into R at once. Reading R once and writing
    it once per M tokens moves about half of the bytes of `step`.

    Args:
        state: R after token `position - count - 1`.
        recent_k: keys of tokens `position - count .. position - 1` in the first `count` slots of
            each row; the other slots mean nothing.
        recent_v: their values.
        count: 0..M per row. M may be 0.
        position: of each row's first new token.
    """
    dtype = accumulator(q)
    gamma = jnp.asarray(log_decay, dtype)
    i, j = jnp.arange(q.shape[1]), jnp.arange(recent_k.shape[1])
    age = jnp.broadcast_to(count, (q.shape[0],))[:, None] + i  # of the first recent token
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))  # heads first: plain batched matmuls
    new = matmul(q, k.swapaxes(2, 3)) * _heads_first(masked_powers(gamma, i[:, None] - i), 2)
    y = matmul(q, state.astype(q.dtype)) * _heads_first(masked_powers(gamma, age + 1), 1)[..., None]
    y = y + matmul(new.astype(v.dtype), v)
    if recent_k.shape[1]:
        recent_k, recent_v = recent_k.swapaxes(1, 2), recent_v.swapaxes(1, 2)
        kept = j < age[:, :1, None]
        since = jnp.where(kept, age[..., None] - j, -1)  # [B, W, M]
        old = matmul(q, recent_k.swapaxes(2, 3)) * _heads_second(masked_powers(gamma, since))
        y = y + matmul(old.astype(v.dtype), recent_v)
    return y.swapaxes(1, 2) * inverse_root_sum(gamma, position[:, None] + i)[..., None]


def fold(
    k: Float[Array, "B T H K"],
    v: Float[Array, "B T H E"],
    log_decay: LogDecay,
    state: Float[Array, "B H K E"],
    length: Int[Array, " B"],
) -> Float[Array, "B H K E"]:
    """R after the first `length` (0..T, per row) of the T tokens that follow it."""
    gamma = jnp.asarray(log_decay, accumulator(k))
    before_last = length[:, None] - 1 - jnp.arange(k.shape[1])
    weighted = (k * masked_powers(gamma, before_last)[..., None]).astype(k.dtype)
    decay = jnp.exp(length.astype(gamma.dtype)[:, None] * gamma)
    added = matmul(weighted.transpose(0, 2, 3, 1), v.swapaxes(1, 2))
    return state * decay[..., None, None] + added


def init_state(batch: int, heads: int, key_dim: int, value_dim: int, dtype=jnp.float32):
    """R before the first token: zeros [B, H, K, E]."""
    return jnp.zeros((batch, heads, key_dim, value_dim), dtype)


def _heads_first(x: Array, tokens: int) -> Array:
    """[..., S.., H] to [..., H, S..], past the last `tokens` token axes."""
    return jnp.moveaxis(x, -1, -1 - tokens)


def _heads_second(x: Array) -> Array:
    """[B, W, M, H] to [B, H, W, M]."""
    return jnp.moveaxis(x, -1, 1)
