"""float32 stays float32 on every platform, whatever its user has set; bfloat16 stays fast."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from fv_jax.config.model import SequenceConfig
from fv_jax.generation import drafts
from fv_jax.generation.sampler import Sampler, decode, start
from fv_jax.models import decode_cache
from fv_jax.ops import products, retention
from fv_jax.ops.retention import FORMS
from fv_jax.sequence.vocab import FREE, Vocab

SEQUENCE = SequenceConfig(
    text_tokens=3, frame_grid=(1, 5), text_vocabulary=20, frame_codes=12, serial_numbers=7
)
B, T, H, K, E = 2, 18, 2, 4, 6
DOT = re.compile(r"stablehlo\.(?:dot_general|dot|convolution)\b.*")


def products_in(function, arguments, platform, **static):
    """The lines of a program's matrix products; lowering needs no device."""
    jitted = function if hasattr(function, "trace") else jax.jit(function)
    lowered = jitted.trace(*arguments, **static).lower(lowering_platforms=(platform,))
    return DOT.findall(lowered.as_text())


def below_highest(lines):
    """Products of float32 that a platform may round."""
    return [
        line
        for line in lines
        if "xf32>" in line.split(" : (")[1].split("->")[0] and line.count("HIGHEST") < 2
    ]


def ops(dtype):
    """Every function of `retention`, on q, k and v of this type, and its gradient."""
    q, k, v = (jnp.ones((B, T, H, width), dtype) for width in (K, K, E))
    state, at = retention.init_state(B, H, K, E), jnp.zeros(B, jnp.int32)
    decays, length = (-0.1, -0.01), jnp.full(B, T - 1)
    programs = {}
    for name in FORMS:
        run = lambda q, k, v, state, name=name: FORMS[name](q, k, v, decays, state, at, length)
        total = lambda *x, run=run: sum(jnp.sum(y) for y in run(*x))
        programs[name] = (run, (q, k, v, state))
        programs[f"{name}, gradient"] = (jax.grad(total, argnums=(0, 1, 2, 3)), (q, k, v, state))
    one = (q[:, 0], k[:, 0], v[:, 0], decays, state, at)
    nine = jnp.full((B, 3), 9)
    lazy = (q, k, v, decays, state, k[:, :3], v[:, :3], nine, at + 9, at + 11)
    programs["step"] = (lambda: retention.step(*one), ())
    programs["window"] = (lambda: retention.window(*lazy), ())
    programs["fold"] = (lambda: retention.fold(k, v, decays, state, length, at), ())
    return programs


def networks(dtype):
    """What a network is asked for: its forms with logits, training's gradient, a lazy step."""
    config = dataclasses.replace(tiny.NETWORK, matmul_dtype=dtype)
    model = tiny.retnet(config, Vocab(SEQUENCE).size, SEQUENCE.frame_codes)
    graph, params = nnx.split(model)
    ids, state = jnp.ones((B, T), jnp.int32), model.init_state(B)

    def loss(params):
        model = nnx.merge(graph, params)
        return jnp.sum(model.logits(model.chunkwise(ids, model.init_state(B))[0]))

    def lazy(params):
        model = nnx.merge(graph, params)
        decoder, lazy = model.decoder(), decode_cache.begin(model, state, 4)
        hidden, keys_values = decode_cache.window(decoder, ids[:, :3], lazy)
        lazy = decode_cache.commit(decoder, lazy, keys_values, jnp.array([1, 3]))
        return decoder.tables.logits(hidden), decode_cache.settle(decoder, lazy)

    def form(name, *arguments):
        def run(params):
            model = nnx.merge(graph, params)
            hidden = getattr(model, name)(*arguments)
            return model.logits(hidden if name == "parallel" else hidden[0])

        return run, (params,)

    return {
        "parallel": form("parallel", ids),
        "chunkwise": form("chunkwise", ids, state),
        "recurrent": form("recurrent", ids, state),
        "step": form("step", ids[:, 0], state),
        "gradient": (jax.grad(loss), (params,)),
        "window": (lazy, (params,)),
    }


def sampler(dtype):
    """Products of the whole sampler as `decode` compiles it, with a prefix for chunkwise."""
    config = dataclasses.replace(tiny.NETWORK, matmul_dtype=dtype)
    model = tiny.retnet(config, Vocab(SEQUENCE).size, SEQUENCE.frame_codes)
    graph, params = nnx.split(model)
    settings = Sampler(SEQUENCE, window=3, guidance=1.5, buffer=4)
    tokens = np.ones((B, 2 * SEQUENCE.stride), np.int32)
    tokens[:, -SEQUENCE.frame_tokens :] = FREE
    state = start(model, settings, [(0,), (1,)])
    guesses = jnp.asarray(drafts.previous_frame(2, SEQUENCE))
    arguments = (params, state, jnp.asarray(tokens), guesses)
    static = {"graph": graph, "sampler": settings, "prefix": SEQUENCE.stride}
    return functools.partial(products_in, decode, arguments, **static)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("programs", [ops, networks])
def test_no_float32_product_is_left_to_the_platforms_rounding(programs, dtype, platform):
    for name, (function, arguments) in programs(dtype).items():
        if "gradient" in name and dtype == "bfloat16":
            continue  # what comes back through a product of bfloat16 may be rounded as it was
        found = products_in(function, arguments, platform)
        assert found, name
        assert not below_highest(found), name


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nor_is_one_in_the_whole_sampler(dtype, platform):
    found = sampler(dtype)(platform=platform)
    assert len(found) > 10
    assert not below_highest(found)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_retention_of_bfloat16_has_fast_products_only(platform):
    for name, (function, arguments) in ops("bfloat16").items():
        if "gradient" not in name:
            for line in products_in(function, arguments, platform):
                assert "HIGHEST" not in line, name
                assert re.search(r": \(tensor<[\dx]*xbf16>, tensor<[\dx]*xbf16>\)", line), name


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_a_product_left_to_the_platform_is_found(platform, monkeypatch):
    (function, arguments), *_ = ops("float32").values()
    monkeypatch.setattr(products, "precision", lambda x: None)
    found = products_in(lambda *x: function(*x), arguments, platform)
    assert below_highest(found) == found != []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sums_are_float32(dtype):
    ones = jnp.ones((3, 4096), dtype)
    for product in (products.matmul(ones, ones.T), products.einsum("ik,jk->ij", ones, ones)):
        assert product.dtype == jnp.float32
        assert (product == 4096).all()
