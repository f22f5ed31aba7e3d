"""Retention of a layer as a TPU kernel, forwards and backwards (`docs/kernels.md` has pictures).

RoPE, retention and the head norm of S tokens of one row are one turn of the grid, all heads. q, k
and v come as [S, H * K] and [S, H * E], as the projections leave them, so nothing is transposed in
memory. The state stays in VMEM from turn to turn. Heads whose keys share 128 lanes are a group.

    exponents    -log2 gamma times distances that are >= 0: nothing overflows (`ops/decay.py`)
    a group      one product reads all its lanes, against weights with zeros for the other heads
    transposes   of a group's q and k, on chip: RoPE's halves and a head's keys are then rows, which
                 cost nothing to take apart, and what a token is scaled by is one row for all; in
                 bfloat16, half the work, where they come or go so

`rows` is what `distances.by_token` gives.
Rows of `turns`, [2 K, T]: cos and sin for q, then for k, K/2 rows each; k's are scaled as k is.
"""

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from fv_jax.ops.kernels.distances import HEADER, NEVER
from fv_jax.ops.products import NN, NT, accumulator, precision

LANES = 128
PAIR = 2  # chunks for which one state is kept, and that a turn of `backward` takes
VMEM_BYTES = 64 * 2**20  # that a kernel may take; v5e and v6e have 128 MiB, v5p 64


def forward(
    log2_decay: Float[Array, " H"],
    passed: Float[Array, "B chunks"],
    rows: Float[Array, "B rows T"],
    turns: Float[Array, "B turns T"],
    q: Float[Array, "B T keys"],
    k: Float[Array, "B T keys"],
    v: Float[Array, "B T values"],
    state: Float[Array, "B keys E"],
    *,
    size: int,
    epsilon: float,
    interpret: bool = False,
) -> tuple[Array, ...]:
    """What `backward` wants, and the state after the last chunk.

    Returns:
        y after the head norm, [B, T, values]; by what the norm has multiplied it, [B, H, T]; the
        state before every pair of chunks, as products read it, [B, pairs + 1, keys, E], the last of
        no use; the state after all, [B, keys, E].
    """
    s = _Shapes(log2_decay, q, v, size, epsilon)
    return _call(
        _forward, s, "retention_forward", interpret,
        (s.keys, s.keys, s.values, s.state),
        ((s.values, v.dtype), (s.by_head, s.sums), (s.states, q.dtype), (s.state, state.dtype)),
        ((s.state[1:], s.sums), ((s.size, s.heads), s.sums)), backwards=False,
    )(log2_decay, passed, rows, turns, q, k, v, state)  # fmt: skip


def backward(
    log2_decay: Float[Array, " H"],
    passed: Float[Array, "B chunks"],
    rows: Float[Array, "B rows T"],
    turns: Float[Array, "B turns T"],
    q: Float[Array, "B T keys"],
    k: Float[Array, "B T keys"],
    v: Float[Array, "B T values"],
    y: Float[Array, "B T values"],
    root: Float[Array, "B H T"],
    before: Float[Array, "B pairs keys E"],
    y_bar: Float[Array, "B T values"],
    state_bar: Float[Array, "B keys E"],
    *,
    size: int,
    epsilon: float,
    interpret: bool = False,
) -> tuple[Array, ...]:
    """Gradients of q, k, v and the state, from those of y and of the state after the last chunk.

    Args:
        log2_decay / passed / rows / turns / q / k / v: as `forward` had them.
        y / root / before: its first results.
        y_bar / state_bar: gradients of its first and last.
        size: S.
        epsilon: of the head norm.
        interpret: run by JAX instead of a TPU.
    """
    s = _Shapes(log2_decay, q, v, size, epsilon)
    return _call(
        _backward, s, "retention_backward", interpret,
        (s.keys, s.keys, s.values, s.values, s.by_head, s.states, s.values, s.state),
        ((s.keys, q.dtype), (s.keys, k.dtype), (s.values, v.dtype), (s.state, state_bar.dtype)),
        ((s.state[1:], s.sums), (s.state[1:], s.dtype)), backwards=True,
    )(
        log2_decay, passed, rows, turns, q, k, v, y, root, before, y_bar, state_bar
    )  # fmt: skip


def heads_together(heads: int, key_dim: int) -> int:
    """How many heads share 128 lanes; 1 where they do not fill them evenly."""
    together = max(LANES // key_dim, 1)
    return together if heads % together == 0 else 1


def groups(heads: int, key_dim: int) -> Iterator[tuple[slice, list[tuple[int, slice]]]]:
    """Lanes of every group of heads that share 128; its heads, and which of these are theirs."""
    together = heads_together(heads, key_dim)
    own = [slice(i * key_dim, (i + 1) * key_dim) for i in range(together)]
    for first in range(0, heads, together):
        lanes = slice(first * key_dim, (first + together) * key_dim)
        yield lanes, [(first + i, own[i]) for i in range(together)]


def dot(a: Array, b: Array, dimensions) -> Array:
    """`lax.dot_general` with the network's precision (`ops/products.py`)."""
    return jax.lax.dot_general(
        a, b, dimensions, precision=precision(a), preferred_element_type=accumulator(a)
    )


class _Shapes:
    """Sizes of one call, and the whole arrays' shapes by what they hold."""

    def __init__(self, log2_decay, q, v, size: int, epsilon: float):
        rows, tokens, _ = q.shape
        self.heads, self.size, self.epsilon = len(log2_decay), size, epsilon
        self.rows, self.chunks = rows, tokens // size
        self.K, self.E = q.shape[-1] // self.heads, v.shape[-1] // self.heads
        self.group = heads_together(self.heads, self.K)
        self.dtype, self.sums = q.dtype, accumulator(q)
        self.keys = (rows, tokens, self.heads * self.K)
        self.values = (rows, tokens, self.heads * self.E)
        self.by_head = (rows, self.heads, tokens)
        self.state = (rows, self.heads * self.K, self.E)
        self.states = (rows, self.chunks // PAIR + 1, self.heads * self.K, self.E)

    def block(self, shape, chunk: Callable, chunks: int) -> pl.BlockSpec:
        """What one turn sees of an array: so many chunks, and `chunk` says which."""
        if shape is self.states:
            # Forwards each chunk writes there; what stays is of the last, a pair's first.
            pair = chunk if chunks == PAIR else lambda c: jax.lax.div(c + PAIR - 1, jnp.int32(PAIR))
            return pl.BlockSpec((1, 1, *shape[2:]), lambda b, c, *_: (b, pair(c), 0, 0))
        if shape is self.state:
            return pl.BlockSpec((1, *shape[1:]), lambda b, c, *_: (b, 0, 0))
        if shape is self.by_head:
            return self.by_token(shape[1], chunk, chunks)
        return pl.BlockSpec((1, chunks * self.size, shape[2]), lambda b, c, *_: (b, chunk(c), 0))

    def by_token(self, rows: int, chunk: Callable, chunks: int) -> pl.BlockSpec:
        """Of rows over tokens."""
        return pl.BlockSpec((1, rows, chunks * self.size), lambda b, c, *_: (b, 0, chunk(c)))


def _call(kernel, s: _Shapes, name, interpret, inputs, outputs, kept, *, backwards):
    chunks = PAIR if backwards else 1
    turns = s.chunks // chunks
    chunk = (lambda c: turns - 1 - c) if backwards else (lambda c: c)
    block = lambda shape: s.block(shape, chunk, chunks)
    of_rows, of_turns = (s.by_token(n, chunk, chunks) for n in (HEADER + s.heads, 2 * s.K))
    return pl.pallas_call(
        functools.partial(kernel, s=s),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(s.rows, turns),
            in_specs=[of_rows, of_turns, *map(block, inputs)],
            out_specs=[block(shape) for shape, _ in outputs],
            scratch_shapes=[pltpu.VMEM(*memory) for memory in kept],
        ),
        out_shape=[jax.ShapeDtypeStruct(*output) for output in outputs],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=VMEM_BYTES
        ),
        interpret=interpret,
        name=name,
    )


def _forward(
    decay_ref, passed_ref, rows_ref, turns_ref, q_ref, k_ref, v_ref, state_ref,
    y_ref, root_ref, before_ref, after_ref, carried, roots, *, s,
):  # fmt: skip
    row, chunk = pl.program_id(0), pl.program_id(1)

    @pl.when(chunk == 0)
    def _():
        carried[...] = state_ref[0]

    before_ref[0, 0] = carried[...].astype(s.dtype)
    rows, turn_q, turn_k = _rows_and_turns(rows_ref, turns_ref, slice(None), s)
    columns = rows[:HEADER].T
    apart = _apart(columns[:, :1], rows[:1], s, later=0)
    for lanes, heads in groups(s.heads, s.K):
        q, k = (ref[0, :, lanes].T.astype(s.sums) for ref in (q_ref, k_ref))
        q = [_turned(q[own], turn_q) * rows[HEADER + head][None] for head, own in heads]
        q_before = [x * jnp.exp2(rows[1:2] * decay_ref[head]) for x, (head, _) in zip(q, heads)]
        q, q_before = (jnp.concatenate(x, axis=0).astype(s.dtype).T for x in (q, q_before))
        for head, own in heads:
            gamma, values = decay_ref[head], slice(head * s.E, (head + 1) * s.E)
            keys = pl.ds(head * s.K, s.K)
            state, v = carried[keys], v_ref[0, :, values]
            k_head = _turned(k[own], turn_k)
            scores = dot(q, _alone(k_head.astype(s.dtype), own, s), NN)
            scores = (scores * jnp.exp2(apart * gamma)).astype(s.dtype)
            y = dot(scores, v, NN) + dot(q_before, _alone(state.astype(s.dtype), own, s), NN)
            root = jax.lax.rsqrt(jnp.mean(y * y, axis=1, keepdims=True) + s.epsilon)
            y_ref[0, :, values] = (y * root).astype(y_ref.dtype)
            roots[:, head : head + 1] = root
            kept = (k_head * jnp.exp2(rows[2:3] * gamma)).astype(s.dtype)
            carried[keys] = state * _passed(gamma, passed_ref[row, chunk], s) + dot(kept, v, NN)
    root_ref[0] = roots[...].T

    @pl.when(chunk == pl.num_programs(1) - 1)
    def _():
        after_ref[0] = carried[...]


def _backward(
    decay_ref, passed_ref, rows_ref, turns_ref, q_ref, k_ref, v_ref, y_ref,
    root_ref, before_ref, y_bar_ref, after_bar_ref, q_bar_ref, k_bar_ref, v_bar_ref, state_bar_ref,
    carried, between, *, s,
):  # fmt: skip
    row, turn = pl.program_id(0), pl.program_id(1)
    first = PAIR * (pl.num_programs(1) - 1 - turn)

    @pl.when(turn == 0)
    def _():
        carried[...] = after_bar_ref[0]

    before = before_ref.at[0, 0]
    of_chunk = [slice(i * s.size, (i + 1) * s.size) for i in range(PAIR)]
    _state_between(
        decay_ref, passed_ref[row, first], rows_ref, turns_ref, k_ref, v_ref, before, between,
        of_chunk[0], s,
    )  # fmt: skip
    for chunk, tokens, own_state in (
        (first + 1, of_chunk[1], between), (first, of_chunk[0], before),
    ):  # fmt: skip
        rows, turn_q, turn_k = _rows_and_turns(rows_ref, turns_ref, tokens, s)
        columns = rows[:HEADER].T
        apart = _apart(rows[:1], columns[:, :1], s, later=1)  # the later token along lanes
        for lanes, heads in groups(s.heads, s.K):
            q_turned, k_turned = (ref[0, tokens, lanes].T.astype(s.sums) for ref in (q_ref, k_ref))
            k_turned = [_turned(k_turned[own], turn_k) for _, own in heads]
            k_kept = [x * jnp.exp2(rows[2:3] * decay_ref[h]) for x, (h, _) in zip(k_turned, heads)]
            k_turned, k_kept = (jnp.concatenate(x).astype(s.dtype) for x in (k_turned, k_kept))
            k, k_kept = k_turned.T, k_kept.T
            q_bars, k_bars = [], []
            for head, own in heads:
                gamma, values = decay_ref[head], slice(head * s.E, (head + 1) * s.E)
                keys = pl.ds(head * s.K, s.K)
                since, since_end = jnp.exp2(rows[1:2] * gamma), jnp.exp2(rows[2:3] * gamma)
                # The head norm's gradient, but for its factor, which goes to q with s^(-1/2).
                y, y_bar = (ref[0, tokens, values].astype(s.sums) for ref in (y_ref, y_bar_ref))
                y_bar = y_bar - y * jnp.mean(y * y_bar, axis=1, keepdims=True)
                y_bar = y_bar.astype(s.dtype)
                scale = rows[HEADER + head][None] * root_ref[0, head, tokens][None]
                q = _turned(q_turned[own], turn_q) * scale
                q_before, q = (q * since).astype(s.dtype), q.astype(s.dtype)
                v, after_bar = v_ref[0, tokens, values], carried[keys]
                after_low = after_bar.astype(s.dtype)
                powers = jnp.exp2(apart * gamma)
                scores = (dot(k, _alone(q, own, s), NN) * powers).astype(s.dtype)
                v_bar = dot(scores, y_bar, NN) + dot(k_kept, _alone(after_low, own, s), NN)
                v_bar_ref[0, tokens, values] = v_bar.astype(v_bar_ref.dtype)
                scores_bar = (dot(v, y_bar, NT) * powers).astype(s.dtype)
                q_bar = dot(k_turned[own], scores_bar, NN)
                q_bar = (q_bar + dot(own_state[keys], y_bar, NT) * since) * scale
                q_bars.append(_turned(q_bar, turn_q, back=True))
                k_bar = dot(q, scores_bar, NT) + dot(after_low, v, NT) * since_end
                k_bars.append(_turned(k_bar, turn_k, back=True))
                decay = _passed(gamma, passed_ref[row, chunk], s)
                carried[keys] = after_bar * decay + dot(q_before, y_bar, NN)
            for ref, bars in ((q_bar_ref, q_bars), (k_bar_ref, k_bars)):
                ref[0, tokens, lanes] = jnp.concatenate(bars, axis=0).astype(ref.dtype).T

    @pl.when(turn == pl.num_programs(1) - 1)
    def _():
        state_bar_ref[0] = carried[...]


def _state_between(
    decay_ref, passed, rows_ref, turns_ref, k_ref, v_ref, before, between, tokens, s
):
    """The state after the first chunk of a pair, as products read it."""
    rows, _, turn_k = _rows_and_turns(rows_ref, turns_ref, tokens, s)
    for lanes, heads in groups(s.heads, s.K):
        k = k_ref[0, tokens, lanes].T.astype(s.sums)
        for head, own in heads:
            gamma, values = decay_ref[head], slice(head * s.E, (head + 1) * s.E)
            keys = pl.ds(head * s.K, s.K)
            kept = (_turned(k[own], turn_k) * jnp.exp2(rows[2:3] * gamma)).astype(s.dtype)
            state = before[keys].astype(s.sums) * _passed(gamma, passed, s)
            state = state + dot(kept, v_ref[0, tokens, values], NN)
            between[keys] = state.astype(s.dtype)


def _rows_and_turns(rows_ref, turns_ref, tokens: slice, s: _Shapes):
    half = s.K // 2
    part = lambda i: turns_ref[0, i * half : (i + 1) * half, tokens]
    return rows_ref[0, :, tokens], (part(0), part(1)), (part(2), part(3))


def _turned(x, turn, *, back=False):
    """RoPE of one head, [K, S]; `back` is its transpose."""
    (cos, sin), half = turn, x.shape[0] // 2
    sin = -sin if back else sin
    first, second = x[:half], x[half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=0)


def _apart(after, before, s: _Shapes, later: int):
    """How far the later token of a pair lies behind the other, [S, S]; `NEVER` where before it."""
    index = functools.partial(jax.lax.broadcasted_iota, jnp.int32, (s.size, s.size))
    square = lambda x: jnp.broadcast_to(x, (s.size, s.size))
    return jnp.where(index(later) >= index(1 - later), square(after) - square(before), NEVER)


def _passed(gamma, distance, s: _Shapes):
    return jnp.exp2(jnp.full((1, s.E), gamma * distance))


def _alone(x, own: slice, s: _Shapes):
    """Weights of one head for a product over all keys of its group: zeros for the others'."""
    zeros = lambda count: [jnp.zeros((count, x.shape[1]), x.dtype)] if count else []
    return jnp.concatenate([*zeros(own.start), x, *zeros(s.group * s.K - own.stop)], axis=0)
