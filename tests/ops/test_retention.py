"""Retention: three forms and an oracle, one set of numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from fv_jax.ops import reference, retention

GAMMAS = (0.3, 0.9, 0.997)
LOG_DECAY = tuple(float(np.log(gamma)) for gamma in GAMMAS)
B, H, K, E = 3, 3, 6, 5
LENGTHS = (1, 2, 37, 300)
# None of the longer ones is a multiple of its chunk; 512 is longer than any.
CHUNKS = {1: (1, 512), 2: (1, 7), 37: (1, 7, 16, 64), 300: (7, 16, 64, 128, 512)}
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


def recurrent(q, k, v, state, start, length):
    """Step after step; a row's state stays as it is after its real tokens."""

    def token(state, inputs):
        q, k, v, i = inputs
        y, after = retention.step(q, k, v, LOG_DECAY, state, start + i)
        return jnp.where((i < length)[:, None, None, None], after, state), y

    over_time = lambda x: x.swapaxes(0, 1)
    inputs = (over_time(q), over_time(k), over_time(v), jnp.arange(q.shape[1]))
    state, y = jax.lax.scan(token, state, inputs)
    return over_time(y), state


def chunkwise(q, k, v, state, start, length, *, chunk):
    return retention.chunkwise(q, k, v, LOG_DECAY, state, start, length, chunk)


@functools.partial(jax.jit, static_argnames=("form", "chunk"))
def values_and_gradients(inputs, cotangents, *, form, chunk=None):
    """(y, state) and the gradients with respect to q, k, v and the state before."""
    *floats, start, length = inputs
    options = {} if chunk is None else {"chunk": chunk}
    outputs, pull = jax.vjp(lambda *x: form(*x, start, length, **options), *floats)
    return outputs, pull(cotangents)


@jax.jit
def parallel_values_and_gradients(inputs, cotangent):
    y, pull = jax.vjp(lambda q, k, v: retention.parallel(q, k, v, LOG_DECAY), *inputs)
    return y, pull(cotangent)


def real_tokens(y, length):
    """y with zeros where a row is padding and y means nothing."""
    return jnp.where((jnp.arange(y.shape[1]) < length[:, None])[..., None, None], y, 0)


@pytest.mark.parametrize(("length", "chunk"), LENGTH_AND_CHUNK)
def test_chunkwise_equals_recurrent_in_values_state_and_gradients(length, chunk, dtype):
    inputs, cotangents = problem(length)
    expected = values_and_gradients(inputs, cotangents, form=recurrent)
    actual = values_and_gradients(inputs, cotangents, form=chunkwise, chunk=chunk)
    tiny.assert_close(actual, expected, dtype)


@pytest.mark.parametrize("length", LENGTHS)
def test_parallel_equals_recurrent_in_values_and_gradients(length, dtype):
    inputs, (cotangent, state_cotangent) = problem(length)
    without_state = (cotangent, jnp.zeros_like(state_cotangent))
    (y, _), gradients = values_and_gradients(inputs, without_state, form=recurrent)
    actual = parallel_values_and_gradients(inputs[:3], cotangent)
    tiny.assert_close(actual, (y, gradients[:3]), dtype)


@pytest.mark.parametrize("chunk", CHUNKS[37])
def test_rows_carry_their_own_state_start_and_length(chunk, dtype):
    inputs, cotangents = problem(37, fresh=False)
    (y, state), gradients = values_and_gradients(inputs, cotangents, form=chunkwise, chunk=chunk)
    (want, want_state), want_gradients = values_and_gradients(inputs, cotangents, form=recurrent)
    tiny.assert_close(real_tokens(y, inputs[-1]), real_tokens(want, inputs[-1]), dtype)
    tiny.assert_close((state, gradients), (want_state, want_gradients), dtype)


def test_a_row_without_real_tokens_keeps_its_state_exactly():
    inputs, cotangents = problem(37, fresh=False)
    (_, state), _ = values_and_gradients(inputs, cotangents, form=chunkwise, chunk=16)
    assert inputs[-1][2] == 0
    np.testing.assert_array_equal(state[2], inputs[3][2])


@pytest.mark.parametrize("chunk", [7, 64])
def test_what_is_in_the_padding_changes_nothing(chunk):
    inputs, cotangents = problem(37, fresh=False)
    padding = (jnp.arange(37) >= inputs[-1][:, None])[..., None, None]
    garbage = [jnp.where(padding, 1e6, x) for x in inputs[:3]]
    clean = values_and_gradients(inputs, cotangents, form=chunkwise, chunk=chunk)[0]
    dirty = values_and_gradients((*garbage, *inputs[3:]), cotangents, form=chunkwise, chunk=chunk)[
        0
    ]
    np.testing.assert_array_equal(dirty[1], clean[1])
    np.testing.assert_array_equal(
        real_tokens(dirty[0], inputs[-1]), real_tokens(clean[0], inputs[-1])
    )


@pytest.mark.parametrize(("form", "chunk"), [(chunkwise, 16), (recurrent, None)])
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
    y, state = chunkwise(*first, state, start, jnp.full(B, known), chunk=16)
    y_rest, state = recurrent(*rest, state, start + known, length - known)
    return jnp.concatenate([y, y_rest], axis=1), state


@pytest.mark.parametrize("known", [1, 20, 36])
def test_prefill_then_steps_equals_steps_from_the_start(known, dtype):
    inputs, cotangents = problem(37)
    expected, _ = values_and_gradients(inputs, cotangents, form=recurrent)
    tiny.assert_close(prefill_then_steps(inputs, known=known), expected, dtype)


@pytest.mark.parametrize("form", ["parallel", "chunkwise", "recurrent"])
def test_an_output_depends_on_every_earlier_token_and_on_no_later_one(form):
    t = 11
    (q, k, v, state, start, length), _ = problem(t)

    def y_of(q, k, v):
        q, k, v = q[None], k[None], v[None]
        if form == "parallel":
            return retention.parallel(q, k, v, LOG_DECAY)[0]
        if form == "chunkwise":
            return chunkwise(q, k, v, state[:1], start[:1], length[:1], chunk=4)[0][0]
        return recurrent(q, k, v, state[:1], start[:1], length[:1])[0][0]

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


@pytest.mark.usefixtures("x64")
def test_abs_sum_norm_divides_by_the_rows_absolute_sum_without_a_gradient():
    (q, k, v, *_), (cotangent, _) = problem(37)
    q = 9 * q  # so that many rows sum to more than 1
    n = np.arange(37)
    distance = n[:, None] - n
    powers = np.asarray(GAMMAS)[:, None, None] ** np.abs(distance) * (distance >= 0)
    scale = np.asarray([[reference.normalizer(gamma, m) for m in range(37)] for gamma in GAMMAS])
    scores = np.einsum("bnhk,bmhk->bhnm", q, k) * powers * scale[..., None]
    total = np.abs(scores).sum(-1).transpose(0, 2, 1)[..., None]
    assert 0.1 < (total > 1).mean() < 1
    divisor = jnp.asarray(np.clip(total, 1, 5e4))

    form = functools.partial(retention.parallel, log_decay=LOG_DECAY)
    normed, pull = jax.vjp(functools.partial(form, abs_sum_norm=True), q, k, v)
    expected, pull_expected = jax.vjp(lambda *qkv: form(*qkv) / divisor, q, k, v)
    tiny.assert_close(normed, expected, "float64")
    tiny.assert_close(pull(cotangent), pull_expected(cotangent), "float64")


def test_bfloat16_inputs_keep_a_float32_state():
    (q, k, v, state, start, length), _ = problem(37)
    low = tuple(x.astype(jnp.bfloat16) for x in (q, k, v))
    one_chunk = jax.jit(functools.partial(chunkwise, chunk=16))
    y, after = one_chunk(*low, state, start, length)
    wide = (x.astype(jnp.float32) for x in low)
    want, want_state = one_chunk(*wide, state, start, length)
    assert y.dtype == after.dtype == jnp.float32
    # bfloat16 keeps 8 bits: the powers of gamma and the scores round to 2^-8 relative.
    assert float(jnp.abs(y - want).max() / jnp.abs(want).max()) < 2**-7
    assert float(jnp.abs(after - want_state).max() / jnp.abs(want_state).max()) < 2**-7
    y, after = retention.step(*(x[:, 0] for x in low), LOG_DECAY, state, start)
    assert y.dtype == after.dtype == jnp.float32
