"""The kernels of a layer's retention, run by JAX, against the oracle and against the plain form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from fv_jax.models.heads import in_steps
from fv_jax.models.layers import NORM_EPSILON
from fv_jax.ops import reference, retention
from fv_jax.ops.kernels import chunk, chunk_gpu
from fv_jax.ops.rope import angles, cos_sin

B, E = 3, 5
GAMMAS = (0.3, 0.9, 0.997, 0.95)


def problem(tokens, heads, key_dim, value_dim=E, *, gaps, dtype="float64", seed=0):
    """Arguments of a form in its steps; rows with all, half and none of the tokens real."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
    sums = jnp.promote_types(dtype, jnp.float32)
    q, k = (draw(B, tokens, heads, key_dim) for _ in range(2))
    v = draw(B, tokens, heads, value_dim)
    state = draw(B, heads, key_dim, value_dim).astype(sums)
    start, length = jnp.array([0, 1000, 70_000]), jnp.array([tokens, tokens // 2, 0])
    steps = rng.integers(1, 9 if gaps else 2, (B, tokens))
    positions = start[:, None] - 1 + jnp.asarray(np.cumsum(steps, axis=1))
    tables = [cos_sin(positions + more, angles(key_dim), sums) for more in (2 * gaps, 0)]
    log_decay = tuple(float(x) for x in np.log(GAMMAS[:heads]))
    at = positions if gaps else None
    return q, k, v, log_decay, state, start, length, at, tuple(tables)


def real_only(y, length):
    """y with zeros where a row is padding and y means nothing."""
    return jnp.where((jnp.arange(y.shape[1]) < length[:, None])[..., None, None], y, 0)


@functools.partial(jax.jit, static_argnames=("log_decay", "form"))
def _evaluate(q, k, v, state, start, length, positions, rope, bars, log_decay, form):
    def run(q, k, v, state):
        y, after = form(q, k, v, log_decay, state, start, length, positions, rope)
        return real_only(y, length).astype(state.dtype), after

    outputs, pull = jax.vjp(run, q, k, v, state)
    return outputs, pull(bars)


def evaluate(form, arguments):
    """(y, state) and the gradients of q, k, v and the state before."""
    q, k, v, log_decay, state, start, length, positions, rope = arguments
    rng = np.random.default_rng(1)
    bars = tuple(jnp.asarray(rng.normal(size=x.shape), state.dtype) for x in (v, state))
    return _evaluate(
        q, k, v, state, start, length, positions, rope, bars, log_decay=log_decay, form=form
    )


@functools.cache
def kernel(platform, size):
    if platform == "gpu":
        return in_steps(functools.partial(chunk_gpu.chunkwise, size=size, interpret=True))
    return functools.partial(chunk.chunkwise, epsilon=NORM_EPSILON, size=size, interpret=True)


every_kernel = pytest.mark.parametrize("platform", ["gpu", "tpu"])
PLAIN = in_steps(functools.partial(retention.chunkwise, chunk=7))


@every_kernel
@settings(max_examples=6)
@given(
    tokens=st.integers(1, 20),
    size=st.sampled_from([4, 8]),
    heads_and_keys=st.sampled_from([(1, 4), (3, 6), (2, 64)]),
    gaps=st.booleans(),
    seed=st.integers(0, 99),
)
def test_values_and_gradients_are_those_of_the_plain_form(
    platform, tokens, size, heads_and_keys, gaps, seed
):
    with jax.enable_x64(True):
        arguments = problem(tokens, *heads_and_keys, gaps=gaps, seed=seed)
        got = evaluate(kernel(platform, size), arguments)
        tiny.assert_close(got, evaluate(PLAIN, arguments), "float64")


@every_kernel
def test_in_float32_too(platform):
    arguments = problem(13, 2, 64, gaps=True, dtype="float32")
    got = evaluate(kernel(platform, 8), arguments)
    tiny.assert_close(got, evaluate(PLAIN, arguments), "float32")


@every_kernel
def test_agrees_with_the_oracle(platform, x64):
    arguments = problem(13, 2, 64, gaps=True)
    q, k, v, log_decay, state, start, length, positions, rope = arguments
    # Its own turning and norm are undone: tables of angle 0, and the norm on both sides.
    still = tuple((jnp.ones_like(cos), jnp.zeros_like(sin)) for cos, sin in rope)
    y, after = kernel(platform, 8)(q, k, v, log_decay, state, start, length, positions, still)
    for row in range(B):
        n = int(length[row])
        for head, gamma in enumerate(GAMMAS[:2]):
            own = np.s_[row, :n, head]
            q_own, k_own, v_own = (np.asarray(x)[own] for x in (q, k, v))
            want, want_state = reference.recurrent(
                q_own, k_own * 64**-0.5, v_own, gamma, np.asarray(state)[row, head],
                int(start[row]), np.asarray(positions)[row, :n],
            )  # fmt: skip
            want = want / np.sqrt(np.mean(want**2, axis=-1, keepdims=True) + NORM_EPSILON)
            tiny.assert_close((y[own], after[row, head]), (want, want_state), "float64")


@every_kernel
@pytest.mark.parametrize("gaps", [False, True])
def test_bfloat16_is_as_near_to_the_truth_as_the_plain_form_is(platform, gaps, x64):
    low = problem(24, 2, 64, 64, gaps=gaps, dtype="bfloat16")
    wide = jax.tree.map(
        lambda x: x.astype("float64") if jnp.issubdtype(x.dtype, jnp.floating) else x,
        low[:3] + low[4:],
    )
    truth = evaluate(PLAIN, (*wide[:3], low[3], *wide[3:]))

    # By token and head, the median: where y is nearly 0 the norm makes much of any rounding.
    def error(got):
        errors = []
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(truth)):
            off, size = (np.linalg.norm(np.asarray(x, float), axis=-1) for x in (a - b, b))
            errors.append(float(np.median(off[size > 0] / size[size > 0])))
        return errors

    got, plain = error(evaluate(kernel(platform, 8), low)), error(evaluate(PLAIN, low))
    assert all(a < 1.5 * b for a, b in zip(got, plain)), (got, plain)


@every_kernel
def test_what_is_in_the_padding_changes_nothing(platform, x64):
    arguments = problem(13, 2, 64, gaps=True)
    length = arguments[6]
    padding = (jnp.arange(13) >= length[:, None])[..., None, None]
    dirty = tuple(jnp.where(padding, 1e6, x) for x in arguments[:3]) + arguments[3:]
    clean, dirty = (kernel(platform, 8)(*x) for x in (arguments, dirty))
    np.testing.assert_array_equal(real_only(dirty[0], length), real_only(clean[0], length))
    np.testing.assert_array_equal(dirty[1], clean[1])
    np.testing.assert_array_equal(clean[1][2], arguments[4][2])  # no real token


@pytest.mark.parametrize(
    ("fits", "shape", "fit"),
    [
        (chunk.fits, (16, 64, 128), True),
        (chunk.fits, (8, 128, 256), True),
        (chunk.fits, (1, 64, 128), False),
        (chunk.fits, (4, 48, 128), False),
        (chunk_gpu.fits, (1, 64, 128), True),
        (chunk_gpu.fits, (3, 16, 16), True),
        (chunk_gpu.fits, (4, 48, 128), False),
        (chunk_gpu.fits, (4, 8, 128), False),
    ],
)
def test_a_tpu_takes_whole_lanes_and_a_gpu_powers_of_two(fits, shape, fit):
    assert fits(*shape) is fit


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_is_lowered_for_cuda(dtype):
    """Triton's rules (powers of 2, what it has no operation for) are known without a GPU."""
    arguments = problem(70, 2, 32, 64, gaps=True, dtype=dtype)
    form = in_steps(chunk_gpu.chunkwise)
    bars = arguments[2], arguments[4]

    def both(q, k, v, state, start, length, positions, rope):
        run = lambda q, k, v, state: form(
            q, k, v, arguments[3], state, start, length, positions, rope
        )
        outputs, pull = jax.vjp(run, q, k, v, state)
        return outputs, pull(bars)

    traced = jax.jit(both).trace(*arguments[:3], *arguments[4:])
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("__gpu$xla.gpu.triton") == 4  # two of each pass
