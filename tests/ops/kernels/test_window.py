"""The kernels of a decoding step, run by JAX, against the oracle and against the plain forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from fv_jax.models import decode_cache, heads
from fv_jax.models.layers import NORM_EPSILON, rms_normalize
from fv_jax.ops import reference, retention
from fv_jax.ops.kernels import window

B, E = 3, 5
GAMMAS = (0.3, 0.9, 0.997, 0.95)
LOG_DECAY = tuple(float(x) for x in np.log(GAMMAS))


def problem(width, slots, head_count, key_dim, *, gaps, dtype="float64", seed=0, value_dim=E):
    """Everything about rows whose buffers hold some tokens, in places of their own."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
    kept = rng.random((B, slots)) < [[1], [0.5], [0]]
    steps = rng.integers(1, 9 if gaps else 2, (B, slots + width))
    steps[:, :slots] *= kept
    folded = np.array([0, 1000, 70_000])
    at = folded[:, None] - 1 + np.cumsum(steps, axis=1)
    start = (at[:, slots - 1] if slots else folded - 1) + 1
    ahead = at[:, slots:] if gaps else start[:, None] + np.arange(width)
    of_heads = lambda tokens, size: draw(B, tokens, head_count, size)
    state = draw(B, head_count, key_dim, value_dim)
    return {
        "qkv": [of_heads(width, n) for n in (key_dim, key_dim, value_dim)],
        "log_decay": LOG_DECAY[:head_count],
        "state": state.astype(jnp.promote_types(dtype, jnp.float32)),
        "recent": [of_heads(slots, n) for n in (key_dim, value_dim)],
        "at": jnp.asarray(np.where(kept, at[:, :slots], retention.NEVER)),
        "folded": jnp.asarray(folded),
        "start": jnp.asarray(start),
        "positions": jnp.asarray(ahead) if gaps else None,
        "ahead": ahead,
    }


every_kernel = pytest.mark.parametrize("platform", ["gpu", "tpu"])


def flat(x):
    return x.reshape(*x.shape[:2], -1)


def plain(p):
    """y of the window after the head norm; R with the buffer in it."""
    y = retention.window(
        *p["qkv"], p["log_decay"], p["state"], *p["recent"], p["at"], p["folded"], p["start"],
        p["positions"],
    )  # fmt: skip
    left, passed = distances(p)
    after = retention.fold_slots(*p["recent"], p["log_decay"], p["state"], left, passed)
    return rms_normalize(y).astype(p["qkv"][2].dtype), after


def by_kernels(p, platform, interpret=True):
    recent = [flat(x) for x in p["recent"]]
    y = window.window(
        *p["qkv"], p["log_decay"], p["state"], *recent, p["at"], p["folded"], p["start"],
        p["positions"], epsilon=NORM_EPSILON, platform=platform, interpret=interpret,
    )  # fmt: skip
    options = {"platform": platform, "interpret": interpret}
    return y, window.fold(*recent, p["log_decay"], p["state"], *distances(p), **options)


def distances(p):
    return p["start"][:, None] - 1 - p["at"], p["start"] - p["folded"]


@every_kernel
@settings(max_examples=5)
@given(
    width=st.integers(1, 6),
    slots=st.integers(1, 9),
    heads_and_keys=st.sampled_from([(1, 4), (3, 6), (2, 64), (4, 64)]),
    gaps=st.booleans(),
    seed=st.integers(0, 99),
)
def test_values_are_those_of_the_plain_forms(platform, width, slots, heads_and_keys, gaps, seed):
    with jax.enable_x64(True):
        p = problem(width, slots, *heads_and_keys, gaps=gaps, seed=seed)
        tiny.assert_close(by_kernels(p, platform), plain(p), "float64")


@every_kernel
@pytest.mark.parametrize("width", [1, 3])
def test_in_float32_too(platform, width):
    p = problem(width, 5, 2, 64, gaps=True, dtype="float32")
    tiny.assert_close(by_kernels(p, platform), plain(p), "float32")


@every_kernel
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("width", [1, 3])
def test_agrees_with_the_oracle(platform, width, gaps, x64):
    p = problem(width, 6, 2, 64, gaps=gaps)
    y, after = by_kernels(p, platform)
    for row in range(B):
        held = np.flatnonzero(np.asarray(p["at"])[row] < retention.NEVER)
        for head, gamma in enumerate(GAMMAS[:2]):
            old = [np.asarray(x)[row, held, head] for x in p["recent"]]
            q, k, v = (np.asarray(x)[row, :, head] for x in p["qkv"])
            state, first = np.asarray(p["state"])[row, head], int(p["folded"][row])
            at = np.asarray(p["at"])[row, held]
            _, want = reference.recurrent(old[0], *old, gamma, state, first, at)
            tiny.assert_close(after[row, head], want, "float64")
            start, ahead = int(p["start"][row]), p["ahead"][row]
            want, _ = reference.recurrent(q, k, v, gamma, want, start, ahead)
            want = want / np.sqrt(np.mean(want**2, axis=-1, keepdims=True) + NORM_EPSILON)
            tiny.assert_close(y[row, :, head], want, "float64")


@every_kernel
@pytest.mark.parametrize("width", [1, 4])
def test_bfloat16_rounds_as_the_plain_forms_do(platform, width):
    p = problem(width, 8, 2, 64, gaps=True, dtype="bfloat16", value_dim=64)
    for got, want in zip(by_kernels(p, platform), plain(p)):
        assert got.dtype == want.dtype
        got, want = (np.asarray(x, np.float32) for x in (got, want))
        # A sum in another order may round to the number beside.
        assert np.abs(got - want).max() <= 2**-7 * np.abs(want).max()


@every_kernel
def test_what_is_in_slots_that_mean_nothing_changes_nothing(platform):
    p = problem(2, 6, 2, 64, gaps=True, dtype="float32")
    unused = (p["at"] == retention.NEVER)[..., None, None]
    dirty = p | {"recent": [jnp.where(unused, 1e6, x) for x in p["recent"]]}
    for got, want in zip(by_kernels(dirty, platform), by_kernels(p, platform)):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("width", [1, 5, 16])
def test_is_lowered_for_cuda(width, dtype):
    p = problem(width, 20, 2, 32, gaps=True, dtype=dtype, value_dim=64)
    arrays = {name: x for name, x in p.items() if name not in ("log_decay", "ahead")}
    step = lambda x: by_kernels(x | {"log_decay": p["log_decay"]}, "gpu", interpret=False)
    text = jax.jit(step).trace(arrays).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("__gpu$xla.gpu.triton") == 2


@every_kernel
def test_decoding_takes_the_kernels_where_the_platform_has_them(platform, monkeypatch):
    """A platform is pretended, whose kernels JAX runs: the same numbers, by other means."""
    model = tiny.retnet(vocabulary=40, codes=12)
    decoder, ids = model.decoder(), jax.random.randint(jax.random.key(1), (B, 6), 0, 40)
    calls = []

    def decoded():
        state = decode_cache.begin(model, model.init_state(B), 4)
        for first in (0, 2, 4):
            hidden, new = decode_cache.window(decoder, ids[:, first : first + 2], state)
            state = decode_cache.commit(decoder, state, new, jnp.array([2, 1, 0]))
        return hidden, decode_cache.settle(decoder, state)

    def counted(name):
        run = functools.partial(getattr(window, name), interpret=True)
        return lambda *x, **options: (calls.append(name), run(*x, **options))[1]

    want = decoded()
    monkeypatch.setattr(heads.sharding, "platform", lambda: platform)
    module = {"gpu": heads.chunk_gpu, "tpu": heads.chunk}[platform]
    monkeypatch.setattr(module, "fits", lambda *shape: True)
    for name in ("window", "fold"):
        monkeypatch.setattr(decode_cache.kernels, name, counted(name))
    tiny.assert_close(decoded(), want, "float32")
    assert set(calls) == {"window", "fold"}
