"""Chunkwise retention as GPU kernels, forwards and backwards (`docs/kernels.md`).

A GPU works on many chunks at once, so only what has to be is done in their order (as in
flash-linear-attention; the code is ours):

    carry        a program for every row, head and S values, chunk after chunk: R before each
    outputs      a program for every chunk, row and head: y from q, k, v and R
    carry        backwards, from the last chunk to the first: the gradient of R after each
    gradients    a program for every chunk, row and head: those of q, k and v

q, k and v lie as the projections leave them, [B, T, H * K] and [B, T, H * E]; a program reads its
head's columns. Decays are powers of distances >= 0 (`kernels/distances.py`), s^(-1/2) goes with
them:

    within[i, j] = s_i^(-1/2) gamma^(n_i - n_j)     0 where j is later
    before[i]    = s_i^(-1/2) gamma^(n_i - end of the chunk before)
    left[j]      = gamma^(end of the chunk - n_j)   0 for padding
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float, Int

from fv_jax.ops.kernels.distances import HEADER, NEVER, by_token
from fv_jax.ops.products import NN, NT, TN, accumulator, precision
from fv_jax.ops.retention import LogDecay

LEAST = 16  # rows and columns that a matrix unit takes


def chunkwise(
    q: Float[Array, "B T H K"],
    k: Float[Array, "B T H K"],
    v: Float[Array, "B T H E"],
    log_decay: LogDecay,
    state: Float[Array, "B H K E"],
    start: Int[Array, " B"],
    length: Int[Array, " B"],
    positions: Int[Array, "B T"] | None = None,
    *,
    size: int | None = None,
    interpret: bool = False,
) -> tuple[Float[Array, "B T H E"], Float[Array, "B H K E"]]:
    """`retention.recurrent`, y in the dtype of v. No gradient reaches `log_decay`.

    Args:
        q / k / v / log_decay / state / start / length / positions: see there.
        size: tokens of a program, a power of 2 from 16 on; None for what registers hold.
        interpret: run by JAX on any device: slowly, for tests.
    """
    b, t = q.shape[:2]
    gamma = jnp.asarray(log_decay, accumulator(q))
    size = size or (64 if q.dtype == jnp.bfloat16 else 32)
    rows, passed = by_token(gamma, start, length, positions, -(-t // size), size)
    flat = lambda x: jnp.pad(x.reshape(b, t, -1), ((0, 0), (0, -t % size), (0, 0)))
    constants = gamma * math.log2(math.e), passed, rows
    y, after = _retention(flat(q), flat(k), flat(v), state, constants, size, interpret)
    return y[:, :t].reshape(v.shape), after


def fits(heads: int, key_dim: int, value_dim: int) -> bool:
    """Whether Triton takes the heads: powers of 2 that fill a matrix unit; registers hold keys."""
    powers = all(n >= LEAST and n & (n - 1) == 0 for n in (key_dim, value_dim))
    return powers and key_dim <= 128


def dot(a: Array, b: Array, dimensions, *, interpret: bool) -> Array:
    """`lax.dot_general`; float32 as three products of TF32, which lose no more than 2^-21.

    Triton's products of float32 itself take no matrix unit, and far more registers than there are.
    """
    exact = precision(a)
    if a.dtype == jnp.float32 and not interpret:  # JAX has no such product on a CPU
        exact = jax.lax.DotAlgorithmPreset.TF32_TF32_F32_X3
    return jax.lax.dot_general(
        a, b, dimensions, precision=exact, preferred_element_type=accumulator(a)
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _retention(q, k, v, state, constants, size, interpret):
    return _forward(q, k, v, state, constants, size, interpret)[0]


def _forward(q, k, v, state, constants, size, interpret):
    s = _Shapes(q, v, state, size, interpret)
    before, after = s.in_turn(constants, k, v, state, backwards=False)
    before = checkpoint_name(before, "retention")
    (y,) = s.at_once(_outputs, constants, (q, k, v, before), (v,))
    y = checkpoint_name(y, "retention")
    return (y, after), (constants, q, k, v, before)


def _backward(size, interpret, kept, bars):
    constants, q, k, v, before = kept
    y_bar, after_bar = bars
    s = _Shapes(q, v, after_bar, size, interpret)
    later, state_bar = s.in_turn(constants, q, y_bar, after_bar, backwards=True)
    bars = s.at_once(_gradients, constants, (q, k, v, y_bar, before, later), (q, k, v))
    return *bars, state_bar, None


_retention.defvjp(_forward, _backward)


class _Shapes:
    """Sizes of one call, and what a program sees of its arrays."""

    def __init__(self, q, v, state, size: int, interpret: bool):
        self.rows, self.heads, self.K, self.E = state.shape
        self.size, self.chunks, self.dtype = size, q.shape[1] // size, q.dtype
        self.interpret = interpret
        self.width = self.E if self.E % size else size

    def in_turn(self, constants, x, y, state, *, backwards: bool):
        """States before every chunk (after it, `backwards`), [B, chunks, H, K, E]; the last."""
        own, tokens = self.width, self.chunks * self.size
        of_state = pl.BlockSpec((None, None, self.K, own), lambda e, h, b: (b, h, 0, e))
        states = (self.rows, self.chunks, self.heads, self.K, self.E)
        return self._call(
            functools.partial(_carry, s=self, backwards=backwards),
            (self.E // own, self.heads, self.rows),
            [
                pl.BlockSpec((self.heads,), lambda *_: (0,)),
                pl.BlockSpec((None, self.chunks), lambda e, h, b: (b, 0)),
                pl.BlockSpec((None, HEADER + self.heads, tokens), lambda e, h, b: (b, 0, 0)),
                pl.BlockSpec((None, tokens, self.K), lambda e, h, b: (b, 0, h)),
                pl.BlockSpec((None, tokens, own), lambda e, h, b: (b, 0, h * (self.E // own) + e)),
                of_state,
            ],
            [
                pl.BlockSpec(
                    (None, self.chunks, None, self.K, own), lambda e, h, b: (b, 0, h, 0, e)
                ),
                of_state,
            ],
            [jax.ShapeDtypeStruct(states, self.dtype), state],
        )(*constants, x, y, state)

    def at_once(self, kernel, constants, arrays, like):
        """Arrays over tokens, made of such and of states."""
        log2_decay, _, rows = constants
        of = lambda x: (
            pl.BlockSpec((None, None, None, *x.shape[3:]), lambda h, c, b: (b, c, h, 0, 0))
            if x.ndim == 5
            else pl.BlockSpec(
                (None, self.size, x.shape[2] // self.heads), lambda h, c, b: (b, c, h)
            )
        )
        return self._call(
            functools.partial(kernel, s=self),
            (self.heads, self.chunks, self.rows),
            [
                pl.BlockSpec((self.heads,), lambda *_: (0,)),
                pl.BlockSpec((None, HEADER + self.heads, self.size), lambda h, c, b: (b, 0, c)),
                *map(of, arrays),
            ],
            list(map(of, like)),
            like,
        )(log2_decay, rows, *arrays)

    def over_values(self, part, carried):
        """`carried` after all parts of a head's values, since registers hold no more at once."""
        width = self.width
        own = lambda i: pl.ds(pl.multiple_of(i * width, width), width)
        return jax.lax.fori_loop(0, self.E // width, lambda i, x: part(own(i), x), carried)

    def dot(self, a, b, dimensions):
        return dot(a, b, dimensions, interpret=self.interpret)

    def _call(self, kernel, grid, inputs, outputs, like):
        return pl.pallas_call(
            kernel,
            grid=grid,
            in_specs=inputs,
            out_specs=outputs,
            out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in like],
            compiler_params=triton.CompilerParams(num_warps=4, num_stages=2),
            interpret=self.interpret,
            name="retention" + kernel.func.__name__,
        )


def _carry(
    decay_ref, passed_ref, rows_ref, x_ref, y_ref, state_ref, states_ref, last_ref, *, s, backwards
):
    head = pl.program_id(1)
    gamma = decay_ref[head]

    def turn(i, state):
        chunk = s.chunks - 1 - i if backwards else i
        tokens = pl.ds(pl.multiple_of(chunk * s.size, s.size), s.size)
        states_ref[chunk] = state.astype(s.dtype)
        weights = (_before if backwards else _left)(rows_ref, head, gamma, tokens)
        x = (x_ref[tokens, :] * weights[:, None]).astype(s.dtype)
        return state * jnp.exp2(passed_ref[chunk] * gamma) + s.dot(x, y_ref[tokens, :], TN)

    last_ref[...] = jax.lax.fori_loop(0, s.chunks, turn, state_ref[...])


def _outputs(decay_ref, rows_ref, q_ref, k_ref, v_ref, before_ref, y_ref, *, s):
    head, q = pl.program_id(0), q_ref[...]
    gamma = decay_ref[head]
    within, before = _within(rows_ref, head, gamma, s), _before(rows_ref, head, gamma)
    scores = (s.dot(q, k_ref[...], NT) * within).astype(s.dtype)

    def part(own, _):
        y = s.dot(scores, v_ref[:, own], NN) + s.dot(q, before_ref[:, own], NN) * before[:, None]
        y_ref[:, own] = y.astype(y_ref.dtype)

    s.over_values(part, None)


def _gradients(
    decay_ref, rows_ref, q_ref, k_ref, v_ref, y_bar_ref, before_ref, later_ref, q_bar_ref,
    k_bar_ref, v_bar_ref, *, s,
):  # fmt: skip
    head, q, k = pl.program_id(0), q_ref[...], k_ref[...]
    gamma = decay_ref[head]
    within, before = _within(rows_ref, head, gamma, s), _before(rows_ref, head, gamma)
    left = _left(rows_ref, head, gamma)
    scores = (s.dot(q, k, NT) * within).astype(s.dtype)

    def part(own, sums):
        scores_bar, q_bar, k_bar = sums
        v, y_bar, later = v_ref[:, own], y_bar_ref[:, own], later_ref[:, own]
        v_bar = s.dot(scores, y_bar, TN) + s.dot(k, later, NN) * left[:, None]
        v_bar_ref[:, own] = v_bar.astype(v_bar_ref.dtype)
        return (
            scores_bar + s.dot(y_bar, v, NT),
            q_bar + s.dot(y_bar, before_ref[:, own], NT),
            k_bar + s.dot(v, later, NT),
        )

    sums = within.dtype
    of_keys = jnp.zeros((s.size, s.K), sums)
    zeros = jnp.zeros((s.size, s.size), sums), of_keys, of_keys
    scores_bar, q_bar, k_bar = s.over_values(part, zeros)
    scores_bar = (scores_bar * within).astype(s.dtype)
    q_bar = s.dot(scores_bar, k, NN) + q_bar * before[:, None]
    q_bar_ref[...] = q_bar.astype(q_bar_ref.dtype)
    k_bar = s.dot(scores_bar, q, TN) + k_bar * left[:, None]
    k_bar_ref[...] = k_bar.astype(k_bar_ref.dtype)


def _before(rows_ref, head, gamma, tokens=slice(None)):
    return jnp.exp2(rows_ref[1, tokens] * gamma) * rows_ref[HEADER + head, tokens]


def _left(rows_ref, head, gamma, tokens=slice(None)):
    return jnp.exp2(rows_ref[2, tokens] * gamma)


def _within(rows_ref, head, gamma, s: _Shapes):
    at, index = rows_ref[0, :], jnp.arange(s.size)
    later = index[:, None] >= index[None, :]
    apart = jnp.where(later, at[:, None] - at[None, :], NEVER)
    return jnp.exp2(apart * gamma) * rows_ref[HEADER + head, :][:, None]
