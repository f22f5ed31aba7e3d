"""Retention: three forms and an oracle, one set of numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from fv_jax.ops import reference, retention
from fv_jax.ops.retention import FORMS

GAMMAS = (0.3, 0.9, 0.997)
LOG_DECAY = tuple(float(np.log(gamma)) for gamma in GAMMAS)
B, H, K, E = 3, 3, 6, 5
LENGTHS = (1, 2, 37, 300)
# None of the longer ones is a multiple of its chunk; 512 is longer than any.
CHUNKS = {1: (1, 512), 2: (1, 7), 37: (1, 7, 16, 64), 300: (7, 16, 64, 128, 512)}
OTHERS = [form for form in FORMS if form not in ("chunkwise", "recurrent")]
LENGTH_AND_CHUNK = [(length, chunk) for length in LENGTHS for chunk in CHUNKS[length]]


def problem(length: int, *, fresh: bool = True):
    """(q, k, v, state, start, length per row) and cotangents of (y, state).

    Fresh rows start at position 0 with all tokens real. Others carry a state, start anywhere
    (across the rotation tables' 1024, too), and have fewer real tokens, one of them none.
    """
    rng = np.random.default_rng(length)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape))
    q, k, v = draw(B, length, H, K), draw(B, length, H, K) * K**-0.5, draw(B, length, H, E)
    state, start, real = draw(B, H, K, E), jnp.array([0, 1000, 70_000]), [length, length // 2, 0]
    if fresh:
        state, start, real = jnp.zeros_like(state), jnp.zeros_like(start), [length] * B
    inside = np.arange(length) < np.asarray(real)[:, None]
    cotangents = draw(B, length, H, E) * inside[..., None, None], draw(B, H, K, E)
    return (q, k, v, state, start, jnp.asarray(real)), cotangents


@functools.partial(jax.jit, static_argnames=("form", "chunk"))
def values_and_gradients(inputs, cotangents, *, form, chunk=None):
    """(y, state) and the gradients with respect to q, k, v and the state before."""
    *floats, start, length = inputs
    options = {} if chunk is None else {"chunk": chunk}
    run = lambda q, k, v, state: FORMS[form](q, k, v, LOG_DECAY, state, start, length, **options)
    outputs, pull = jax.vjp(run, *floats)
    return outputs, pull(cotangents)


def real_tokens(y, length):
    """y with zeros where a row is padding and y means nothing."""
    return jnp.where((jnp.arange(y.shape[1]) < length[:, None])[..., None, None], y, 0)


@pytest.mark.parametrize(("length", "chunk"), LENGTH_AND_CHUNK)
def test_chunkwise_equals_recurrent_in_values_state_and_gradients(length, chunk, dtype):
    inputs, cotangents = problem(length)
    expected = values_and_gradients(inputs, cotangents, form="recurrent")
    actual = values_and_gradients(inputs, cotangents, form="chunkwise", chunk=chunk)
    tiny.assert_close(actual, expected, dtype)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("form", OTHERS)
def test_a_form_equals_recurrent_in_values_state_and_gradients(form, length, dtype):
    inputs, cotangents = problem(length)
    expected = values_and_gradients(inputs, cotangents, form="recurrent")
    actual = values_and_gradients(inputs, cotangents, form=form)
    tiny.assert_close(actual, expected, dtype)


@pytest.mark.parametrize(
    ("form", "chunk"), [*(("chunkwise", c) for c in CHUNKS[37]), *((f, None) for f in OTHERS)]
)
def test_rows_carry_their_own_state_start_and_length(form, chunk, dtype):
    inputs, cotangents = problem(37, fresh=False)
    (y, state), gradients = values_and_gradients(inputs, cotangents, form=form, chunk=chunk)
    (want, want_state), want_gradients = values_and_gradients(inputs, cotangents, form="recurrent")
    tiny.assert_close(real_tokens(y, inputs[-1]), real_tokens(want, inputs[-1]), dtype)
    tiny.assert_close((state, gradients), (want_state, want_gradients), dtype)


@pytest.mark.parametrize("form", FORMS)
def test_a_row_without_real_tokens_keeps_its_state_exactly(form):
    inputs, cotangents = problem(37, fresh=False)
    (_, state), _ = values_and_gradients(inputs, cotangents, form=form)
    assert inputs[-1][2] == 0
    np.testing.assert_array_equal(state[2], inputs[3][2])


@pytest.mark.parametrize(
    ("form", "chunk"), [("chunkwise", 7), ("chunkwise", 64), *((form, None) for form in OTHERS)]
)
def test_what_is_in_the_padding_changes_nothing(form, chunk):
    inputs, cotangents = problem(37, fresh=False)
    padding = (jnp.arange(37) >= inputs[-1][:, None])[..., None, None]
    garbage = [jnp.where(padding, 1e6, x) for x in inputs[:3]]
    run = functools.partial(values_and_gradients, form=form, chunk=chunk)
    clean, dirty = (run((*x, *inputs[3:]), cotangents)[0] for x in (inputs[:3], garbage))
    np.testing.assert_array_equal(dirty[1], clean[1])
    np.testing.assert_array_equal(
        real_tokens(dirty[0], inputs[-1]), real_tokens(clean[0], inputs[-1])
    )


@pytest.mark.parametrize(
    ("form", "chunk"), [("chunkwise", 16), *((f, None) for f in FORMS if f != "chunkwise")]
)
def test_agrees_with_the_oracle(form, chunk, dtype):
    inputs, cotangents = problem(37, fresh=False)
    (y, state), _ = values_and_gradients(inputs, cotangents, form=form, chunk=chunk)
    q, k, v, before, start, length = (np.asarray(x, np.float64) for x in inputs)
    for row in range(B):
        n = int(length[row])
        for head, gamma in enumerate(GAMMAS):
            want, want_state = reference.recurrent(
                q[row, :n, head], k[row, :n, head], v[row, :n, head], gamma,
                before[row, head], int(start[row]),
            )  # fmt: skip
            tiny.assert_close((y[row, :n, head], state[row, head]), (want, want_state), dtype)


def test_the_oracles_two_forms_agree():
    (q, k, v, *_), _ = problem(37)
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    for head, gamma in enumerate(GAMMAS):
        one = (q[0, :, head], k[0, :, head], v[0, :, head], gamma)
        tiny.assert_close(reference.parallel(*one), reference.recurrent(*one)[0], "float64")


@functools.partial(jax.jit, static_argnames="known")
def prefill_then_steps(inputs, *, known):
    *tokens, state, start, length = inputs
    first, rest = [x[:, :known] for x in tokens], [x[:, known:] for x in tokens]
    y, state = retention.chunkwise(*first, LOG_DECAY, state, start, jnp.full(B, known), 16)
    y_rest, state = retention.recurrent(*rest, LOG_DECAY, state, start + known, length - known)
    return jnp.concatenate([y, y_rest], axis=1), state


@pytest.mark.parametrize("known", [1, 20, 36])
def test_prefill_then_steps_equals_steps_from_the_start(known, dtype):
    inputs, cotangents = problem(37)
    expected, _ = values_and_gradients(inputs, cotangents, form="recurrent")
    tiny.assert_close(prefill_then_steps(inputs, known=known), expected, dtype)


@pytest.mark.parametrize("form", FORMS)
def test_an_output_depends_on_every_earlier_token_and_on_no_later_one(form):
    t = 11
    (q, k, v, state, start, length), _ = problem(t)

    def y_of(q, k, v):
        options = {"chunk": 4} if form == "chunkwise" else {}
        one = (q[None], k[None], v[None], LOG_DECAY, state[:1], start[:1], length[:1])
        return FORMS[form](*one, **options)[0][0]

    jacobians = jax.jit(jax.jacrev(y_of, argnums=(0, 1, 2)))(q[0], k[0], v[0])
    # [n, H, E, m, H, *] to [n, m]: the strongest influence of token m on output n.
    by_query, by_key, by_value = (np.abs(jacobian).max(axis=(1, 2, 4, 5)) for jacobian in jacobians)
    n, m = np.mgrid[:t, :t]
    assert (by_query[n != m] == 0).all()
    assert (by_query[n == m] > 0).all()
    for influence in (by_key, by_value):
        assert (influence[m > n] == 0).all()
        assert (influence[m <= n] > 0).all()


def test_strong_decay_over_4000_tokens_gives_finite_and_right_gradients():
    log_decay = tuple(float(np.log(gamma)) for gamma in (1e-4, 0.5, 0.99))
    rng = np.random.default_rng(0)
    q, k, v, weight = (jnp.asarray(rng.normal(size=(1, 4000, 3, 4)), np.float32) for _ in range(4))
    state = jnp.zeros((1, 3, 4, 4))

    @functools.partial(jax.jit, static_argnames="chunk")
    def gradients(q, k, v, weight, *, chunk):
        def loss(q, k, v):
            y, _ = retention.chunkwise(
                q, k, v, log_decay, state.astype(q.dtype), jnp.array([0]), jnp.array([4000]), chunk
            )
            return jnp.sum(y * weight)

        return jax.grad(loss, argnums=(0, 1, 2))(q, k, v)

    actual = gradients(q, k, v, weight, chunk=512)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in actual)
    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(x, np.float64)) for x in (q, k, v, weight)]
        expected = gradients(*wide, chunk=8)
    tiny.assert_close(actual, expected, "float32")


def test_bfloat16_inputs_keep_a_float32_state():
    (q, k, v, state, start, length), _ = problem(37)
    low = tuple(x.astype(jnp.bfloat16) for x in (q, k, v))
    run = jax.jit(functools.partial(retention.chunkwise, log_decay=LOG_DECAY, chunk=16))
    y, after = run(*low, state=state, start=start, length=length)
    wide = (x.astype(jnp.float32) for x in low)
    want, want_state = run(*wide, state=state, start=start, length=length)
    assert y.dtype == after.dtype == jnp.float32
    # bfloat16 keeps 8 bits: the powers of gamma and the scores round to 2^-8 relative.
    assert float(jnp.abs(y - want).max() / jnp.abs(want).max()) < 2**-7
    assert float(jnp.abs(after - want_state).max() / jnp.abs(want_state).max()) < 2**-7
    y, after = retention.step(*(x[:, 0] for x in low), LOG_DECAY, state, start)
    assert y.dtype == after.dtype == jnp.float32


@pytest.mark.parametrize("chunk", [0, -3])
def test_a_chunk_without_tokens_is_refused(chunk):
    inputs, _ = problem(2)
    with pytest.raises(ValueError, match=f"chunk must be >= 1 token, got {chunk}"):
        retention.chunkwise(*inputs[:3], LOG_DECAY, *inputs[3:], chunk)
