"""The transformer baseline is a right one."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from experiments.baselines.attention import Transformer, all_turns
from fv_jax.config.model import RetNetConfig
from fv_jax.models.retnet import RetNet

T = 12


def model():
    return tiny.randomised(lambda: Transformer(tiny.NETWORK, 40, 12, rngs=nnx.Rngs(0)))


def tokens():
    return jax.random.randint(jax.random.key(2), (2, T), 0, 40)


@pytest.mark.parametrize("known", [0, 1, 7])
def test_decoding_with_the_cache_gives_what_reading_all_at_once_gives(known, dtype):
    net = model()
    read = jax.jit(net.read)
    whole, _ = read(tokens(), net.init_state(2, T))
    cache, parts = net.init_state(2, T + 3), []  # a longer buffer than needed changes nothing
    for first, last in itertools.pairwise(sorted({0, *range(known, T + 1)})):
        hidden, cache = read(tokens()[:, first:last], cache)
        parts.append(hidden)
    tiny.assert_close(jnp.concatenate(parts, axis=1), whole, dtype)
    np.testing.assert_array_equal(cache.position, [T, T])


def test_reading_without_a_cache_gives_the_same():
    net = model()
    whole, _ = jax.jit(net.read)(tokens(), net.init_state(2, T))
    tiny.assert_close(jax.jit(net.parallel)(tokens(), net.stacked()), whole, "float32")


def test_one_position_for_all_rows_and_a_cache_that_grows_give_the_same():
    net = model()
    whole, _ = jax.jit(net.read)(tokens(), net.init_state(2, T))
    cache = dataclasses.replace(net.init_state(2, 5), position=jnp.zeros((1,), jnp.int32))
    read = jax.jit(net.read)
    first, cache = read(tokens()[:, :5], cache)
    second, cache = read(tokens()[:, 5:], cache.grown(T))
    tiny.assert_close(jnp.concatenate([first, second], axis=1), whole, "float32")
    np.testing.assert_array_equal(cache.position, [T])


def test_an_output_depends_on_no_later_token():
    net = model()
    changed = tokens().at[:, 8].add(1)
    read = jax.jit(lambda t: net.read(t, net.init_state(2, T))[0])
    before, after = read(tokens()), read(changed % 40)
    np.testing.assert_array_equal(before[:, :8], after[:, :8])
    assert (jnp.abs(before - after).max(-1)[:, 8:] > 1e-4).all()


def test_attention_is_softmax_attention():
    """One layer against NumPy, in float64."""
    with jax.enable_x64(True):
        net = model()
        attention = net.blocks[0].attention
        c = tiny.NETWORK
        x = np.random.default_rng(0).normal(size=(1, T, c.width))
        turns = all_turns(jnp.arange(T)[None], c.key_dim, jnp.float64)
        got, _ = attention(jnp.asarray(x), net.init_state(1, T).layers[0], jnp.array([0]), turns)
        q, k, v = np.split(x[0] @ np.asarray(attention.qkv.weight[...]), 3, axis=-1)
        want = np.zeros((T, c.width))
        theta = 10000.0 ** (-np.arange(c.key_dim // 2) / (c.key_dim // 2 - 1))
        turn = np.exp(1j * np.arange(T)[:, None] * theta)
        for h in range(c.heads):
            one = slice(h * c.key_dim, (h + 1) * c.key_dim)
            qh, kh = ((y[:, one][:, 0::2] + 1j * y[:, one][:, 1::2]) * turn for y in (q, k))
            scores = (qh @ kh.conj().T).real * c.key_dim**-0.5
            for n in range(T):
                weight = np.exp(scores[n, : n + 1] - scores[n, : n + 1].max())
                want[n, one] = weight / weight.sum() @ v[: n + 1, one]
        tiny.assert_close(got[0], want @ np.asarray(attention.out.weight[...]), "float64")


def test_it_has_the_parameters_of_the_retnet_beside_it():
    config = RetNetConfig(width=240, heads=4, value_width=480, hidden=320, memory_tokens=(8, 99))
    count = lambda make: sum(
        int(np.prod(leaf.shape))
        for leaf in jax.tree.leaves(nnx.state(nnx.eval_shape(make), nnx.Param))
    )
    ours = count(lambda: RetNet(config, 100, 100, rngs=nnx.Rngs(0)))
    theirs = count(lambda: Transformer(config, 100, 100, rngs=nnx.Rngs(0)))
    assert abs(theirs / ours - 1) < 0.01
