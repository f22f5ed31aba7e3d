"""Tokens left out: every form gives what the oracle gives where only the others are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from fv_jax.ops import reference, retention
from fv_jax.ops.retention import FORMS

GAMMAS = (0.3, 0.9, 0.9997)
LOG_DECAY = tuple(float(np.log(gamma)) for gamma in GAMMAS)
B, H, K, E = 4, 3, 4, 5


def left_out(seed: int, tokens: int, *, carried: bool):
    """A dense problem, and which of its tokens are there; row 0 has all, the last one few.

    Returns:
        q, k, v [B, T, H, *] of all places, state, start and kept [B, T].
    """
    rng = np.random.default_rng(seed)
    share = np.asarray([0, rng.uniform(), rng.uniform(), 0.95])[:, None]
    kept = rng.uniform(size=(B, tokens)) >= share
    state = rng.normal(size=(B, H, K, E)) * carried
    start = np.asarray([0, 3, 1000, 70_000]) * carried
    q, k, v = (rng.normal(size=(B, tokens, H, width)) for width in (K, K, E))
    return q, k, v, state, start, kept


def compacted(dense, kept, start):
    """The tokens that are there, first in their rows; positions, and how many they are."""
    length = kept.sum(axis=1)
    order = np.argsort(~kept, axis=1, kind="stable")[:, : max(int(length.max()), 1)]
    take = lambda x: np.take_along_axis(x, order[..., None, None], axis=1)
    # Places of padding come from anywhere: nobody may read them.
    return [take(x) for x in dense], start[:, None] + order, length


@functools.partial(jax.jit, static_argnames=("form", "chunk"))
def values_and_gradients(inputs, positions, cotangents, *, form, chunk=None):
    *floats, start, length = inputs
    options = {"positions": positions} | ({} if chunk is None else {"chunk": chunk})
    run = lambda q, k, v, state: FORMS[form](q, k, v, LOG_DECAY, state, start, length, **options)
    outputs, pull = jax.vjp(run, *floats)
    return outputs, pull(cotangents)


problems = given(
    seed=st.integers(0, 2**31), tokens=st.sampled_from((1, 9, 40)), carried=st.booleans(),
    chunk=st.sampled_from((1, 7, 16, 64)),
)  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=12)
@problems
def test_a_form_is_the_oracle_without_the_tokens_left_out(form, seed, tokens, carried, chunk):
    *dense, state, start, kept = left_out(seed, tokens, carried=carried)
    few, positions, length = compacted(dense, kept, start)
    real = np.arange(positions.shape[1]) < length[:, None]
    rng = np.random.default_rng(seed)
    cotangents = rng.normal(size=few[2].shape) * real[..., None, None], rng.normal(size=state.shape)
    with jax.enable_x64(True):
        inputs = [jnp.asarray(x) for x in (*few, state, start, length)]
        (y, after), gradients = values_and_gradients(
            inputs, jnp.asarray(positions), cotangents, form=form,
            chunk=chunk if form == "chunkwise" else None,
        )  # fmt: skip
        # The same by all tokens of a row up to its last one, where those left out add k (x) 0.
        last = np.max(np.where(kept, np.arange(tokens) + 1, 0), axis=1)
        q, k, v = dense
        whole = [jnp.asarray(x) for x in (q, k, np.where(kept[..., None, None], v, 0))]
        spread = np.zeros_like(v)
        rows, columns = np.nonzero(real)
        spread[rows, (positions - start[:, None])[rows, columns]] = cotangents[0][rows, columns]
        _, wanted = values_and_gradients(
            [*whole, jnp.asarray(state), jnp.asarray(start), jnp.asarray(last)], None,
            (spread, cotangents[1]), form="recurrent",
        )  # fmt: skip
    for row in range(B):
        n, places = int(length[row]), np.flatnonzero(kept[row])
        for head, gamma in enumerate(GAMMAS):
            one = (x[row, :n, head] for x in few)
            begin, at = int(start[row]), positions[row, :n]
            want, want_state = reference.recurrent(*one, gamma, state[row, head], begin, at)
            got = (y[row, :n, head], after[row, head])
            tiny.assert_close(got, (want, want_state), "float64")
        for got, want in zip(gradients[:3], wanted[:3]):
            tiny.assert_close(got[row, :n], np.asarray(want)[row, places], "float64")
    tiny.assert_close(gradients[3], wanted[3], "float64")


def test_the_oracle_leaves_out_what_is_dense_with_nothing_to_add():
    q, k, v, _, _, kept = left_out(0, 40, carried=False)
    for row in range(B):
        places = np.flatnonzero(kept[row])
        for head, gamma in enumerate(GAMMAS):
            without = np.where(kept[row, :, None], v[row, :, head], 0)
            want = reference.parallel(q[row, :, head], k[row, :, head], without, gamma)[places]
            few = (x[row, places, head] for x in (q, k, v))
            tiny.assert_close(
                reference.recurrent(*few, gamma, positions=places)[0], want, "float64"
            )


@settings(max_examples=12)
@given(
    seed=st.integers(0, 2**31),
    width=st.sampled_from((1, 4)),
    slots=st.sampled_from((0, 5)),
    data=st.data(),
)
def test_a_window_and_fold_are_the_oracle_without_the_tokens_left_out(seed, width, slots, data):
    """The first tokens lie in R, the next ones in the buffer, the last are the window."""
    rng = np.random.default_rng(seed)
    count = np.asarray(data.draw(st.lists(st.integers(0, slots), min_size=B, max_size=B)))
    tokens = slots + width
    q, k, v = (rng.normal(size=(B, tokens, H, n)) for n in (K, K, E))
    state, start = rng.normal(size=(B, H, K, E)), rng.integers(0, 70_000, B)
    positions = start[:, None] + np.cumsum(rng.integers(1, 9, (B, tokens)), axis=1)
    ahead = count[:, None] + np.arange(width)
    look_up = lambda x: np.take_along_axis(x, ahead.reshape(B, width, *[1] * (x.ndim - 2)), axis=1)
    end = np.where(count, positions[np.arange(B), count - 1] + 1, start)
    held = np.arange(slots) < count[:, None]
    with jax.enable_x64(True):
        y = retention.window(
            *(jnp.asarray(look_up(x)) for x in (q, k, v)), LOG_DECAY, jnp.asarray(state),
            *(jnp.asarray(x[:, :slots]) for x in (k, v)),
            jnp.asarray(np.where(held, positions[:, :slots], retention.NEVER)),
            *(jnp.asarray(x) for x in (start, end, look_up(positions))),
        )  # fmt: skip
        after = retention.fold(
            *(jnp.asarray(x[:, :slots]) for x in (k, v)), LOG_DECAY,
            *(jnp.asarray(x) for x in (state, count, start, positions[:, :slots])),
        )  # fmt: skip
    for row, n in enumerate(count):
        for head, gamma in enumerate(GAMMAS):
            few = [x[row, : n + width, head] for x in (q, k, v)]
            at = positions[row, : n + width]
            want, _ = reference.recurrent(*few, gamma, state[row, head], int(start[row]), at)
            tiny.assert_close(y[row, :, head], want[n:], "float64")
            few = [x[:n] for x in few]
            _, want = reference.recurrent(*few, gamma, state[row, head], int(start[row]), at[:n])
            tiny.assert_close(after[row, head], want, "float64")


@pytest.mark.parametrize("form", FORMS)
def test_a_row_without_gaps_is_bit_for_bit_what_it_is_without_positions(form):
    *dense, state, start, _ = left_out(1, 40, carried=True)
    length = jnp.asarray([40, 17, 0, 33])
    inputs = [jnp.asarray(x, jnp.float32) for x in (*dense, state)]
    inputs += [jnp.asarray(start), length]
    positions = inputs[-2][:, None] + jnp.arange(40)
    # One operation at a time: what the compiler may fuse and round once has no part in it.
    with jax.disable_jit():
        plain, given = (
            FORMS[form](*inputs[:3], LOG_DECAY, *inputs[3:], positions=at)
            for at in (None, positions)
        )
    real = (jnp.arange(40) < length[:, None])[..., None, None]
    np.testing.assert_array_equal(jnp.where(real, given[0], 0), jnp.where(real, plain[0], 0))
    np.testing.assert_array_equal(given[1], plain[1])


def test_gaps_of_thousands_of_tokens_give_finite_gradients():
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(2, 40, H, 4)), jnp.float32) for _ in range(3))
    positions = jnp.asarray(np.cumsum(rng.integers(1, 60_000, (2, 40)), axis=1))
    inputs = (q, k, v, jnp.zeros((2, H, 4, 4)), jnp.zeros(2, int), jnp.asarray([40, 17]))
    outputs, gradients = values_and_gradients(
        inputs, positions, (jnp.ones(v.shape), jnp.ones((2, H, 4, 4))), form="chunkwise", chunk=16
    )
    for leaf in jax.tree.leaves((outputs, gradients)):
        assert bool(jnp.isfinite(leaf).all())
