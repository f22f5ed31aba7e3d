"""Retention at any shape and at video length, against the float64 oracle."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.benches import retention_error
from fv_jax.ops import reference, retention
from fv_jax.ops.retention import FORMS

# Relative to the largest number expected. bfloat16 keeps 8 bits: 2^-8, and sums of such errors.
TOLERANCE = {"float64": 1e-11, "float32": 3e-5, "bfloat16": 3e-2}


@st.composite
def problems(draw):
    """Shapes, decays, offsets and real lengths of a batch of ragged rows."""
    rows, heads = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    length = draw(st.one_of(st.integers(1, 40), st.integers(1, 2000)))
    row = st.tuples(st.integers(0, 100_000), st.integers(0, length))
    return {
        "shape": (rows, heads, 2 * draw(st.integers(1, 6)), draw(st.integers(1, 9)), length),
        "chunk": draw(st.integers(1, 2 * length)),
        "gammas": draw(st.lists(st.floats(0.05, 0.99999), min_size=heads, max_size=heads)),
        "rows": draw(st.lists(row, min_size=rows, max_size=rows)),
        "dtype": draw(st.sampled_from(list(TOLERANCE))),
        "seed": draw(st.integers(0, 1000)),
    }


def inputs(problem):
    """q, k, v [B, T, H, *] and the state, NumPy, rounded to the problem's dtype."""
    rows, heads, key_dim, value_dim, length = problem["shape"]
    rng = np.random.default_rng(problem["seed"])
    low = lambda x: np.asarray(jnp.asarray(x, problem["dtype"]), np.float64)
    draw = lambda *shape: rng.normal(size=shape)
    q, k = (low(draw(rows, length, heads, key_dim) * key_dim**-0.25) for _ in range(2))
    state = np.asarray(draw(rows, heads, key_dim, value_dim), np.float32).astype(np.float64)
    return q, k, low(draw(rows, length, heads, value_dim)), state


def check(y, after, problem):
    q, k, v, state = inputs(problem)
    limit = TOLERANCE[problem["dtype"]]
    for row, (start, real) in enumerate(problem["rows"]):
        for head, gamma in enumerate(problem["gammas"]):
            want, want_state = reference.recurrent(
                q[row, :real, head], k[row, :real, head], v[row, :real, head], gamma,
                state[row, head], start,
            )  # fmt: skip
            for got, expected in ((y[row, :real, head], want), (after[row, head], want_state)):
                error = np.abs(np.asarray(got, np.float64) - expected).max(initial=0)
                assert error <= limit * max(1, np.abs(expected).max(initial=0))


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=6)
@given(problem=problems())
def test_a_form_is_right_for_any_shape_offset_chunk_and_ragged_rows(form, problem):
    options = {"chunk": problem["chunk"]} if form == "chunkwise" else {}
    with jax.enable_x64(problem["dtype"] == "float64"):
        q, k, v, state = inputs(problem)
        log_decay = tuple(float(np.log(gamma)) for gamma in problem["gammas"])
        start, real = (jnp.asarray(x) for x in np.asarray(problem["rows"]).T)
        run = jax.jit(functools.partial(FORMS[form], log_decay=log_decay, **options))
        low = (jnp.asarray(x, problem["dtype"]) for x in (q, k, v))
        wide = jnp.float64 if problem["dtype"] == "float64" else jnp.float32
        y, after = run(*low, state=jnp.asarray(state, wide), start=start, length=real)
        assert y.dtype == after.dtype == wide
        check(y, after, problem)


@functools.partial(jax.jit, static_argnames="log_decay")
def window_and_fold(ahead, recent, state, count, position, *, log_decay):
    start = position - count
    slots = jnp.arange(recent[0].shape[1])
    at = jnp.where(slots < count[:, None], start[:, None] + slots, retention.NEVER)
    y = retention.window(*ahead, log_decay, state, *recent, at, start, position)
    return y, retention.fold(*recent, log_decay, state, count, start)


@settings(max_examples=4)
@given(problems(), st.integers(0, 8), st.integers(1, 4), st.data())
def test_window_and_fold_are_right_for_any_buffer(problem, slots, width, data):
    """The first tokens lie in R, the next ones in the buffer, the last are the window."""
    rows, *_ = problem["shape"]
    problem["shape"] = (*problem["shape"][:4], slots + width)
    counts = data.draw(st.lists(st.integers(0, slots), min_size=rows, max_size=rows))
    with jax.enable_x64(problem["dtype"] == "float64"):
        q, k, v, state = inputs(problem)
        log_decay = tuple(float(np.log(gamma)) for gamma in problem["gammas"])
        wide = jnp.float64 if problem["dtype"] == "float64" else jnp.float32
        low = [jnp.asarray(x, problem["dtype"]) for x in (q, k, v)]
        ends = np.asarray(counts)[:, None] + np.arange(width)  # of each row's window
        ahead = [jnp.take_along_axis(x, ends[..., None, None], axis=1) for x in low]
        starts = jnp.asarray([start for start, _ in problem["rows"]])
        r, count = jnp.asarray(state, wide), jnp.asarray(counts)
        recent = [x[:, :slots] for x in low[1:]]
        y, after = window_and_fold(ahead, recent, r, count, starts + count, log_decay=log_decay)
        assert y.dtype == after.dtype == wide
        limit = TOLERANCE[problem["dtype"]]
        for row, n in enumerate(counts):
            for head, gamma in enumerate(problem["gammas"]):
                one = (x[row, : n + width, head] for x in (q, k, v))
                want, _ = reference.recurrent(
                    *one, gamma, state[row, head], problem["rows"][row][0]
                )
                error = np.abs(np.asarray(y[row, :, head], np.float64) - want[n:]).max()
                assert error <= limit * max(1, np.abs(want).max())
                one = (x[row, :n, head] for x in (q, k, v))
                _, want_state = reference.recurrent(*one, gamma, state[row, head])
                error = np.abs(np.asarray(after[row, head], np.float64) - want_state).max()
                assert error <= limit * max(1, np.abs(want_state).max())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_16384_tokens_give_finite_values_and_gradients(dtype):
    length, heads = 16_384, 4
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(1, length, heads, 8)), dtype) for _ in range(3))
    log_decay = tuple(float(np.log1p(-(2.0**-n))) for n in (1, 5, 12, 20))

    @jax.jit
    def value_and_gradients(q, k, v):
        def loss(q, k, v):
            state = retention.init_state(1, heads, 8, 8)
            y, after = retention.chunkwise(
                q, k, v, log_decay, state, jnp.array([0]), jnp.array([length]), 128
            )
            return jnp.sum(y**2), (y, after)

        return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(q, k, v)

    (_, (y, after)), gradients = value_and_gradients(q, k, v)
    assert y.dtype == after.dtype == jnp.float32
    for leaf in (y, after, *gradients):
        assert bool(jnp.isfinite(leaf).all())
        assert float(jnp.abs(leaf).max()) > 0


@pytest.mark.slow
def test_errors_at_6800_tokens_stay_within_their_limits():
    errors = retention_error.measure(6800, 128)
    assert list(errors) == list(retention_error.LIMITS)
    for name, row in errors.items():
        assert np.all(np.asarray(row) <= retention_error.LIMITS[name]), (name, row)
