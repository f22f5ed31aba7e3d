"""A network that reads the ids nearby: all its forms agree, and it begins as one that does not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from fv_jax.config.model import NEARBY_FRAMES as FRAMES
from fv_jax.config.model import NEARBY_TAPS as TAPS
from fv_jax.models import decode_cache
from fv_jax.models.retnet import RetNet

CONFIG = dataclasses.replace(tiny.NETWORK, nearby=3)
B, T, CODES = 2, 8, 12
RNG = np.random.default_rng(0)
TOKENS = jnp.asarray(RNG.integers(0, 40, (B, T)))
NEARBY = jnp.asarray(RNG.integers(-1, CODES, (B, T, FRAMES * TAPS)))


def test_all_forms_agree(dtype):
    network = tiny.retnet(CONFIG)
    want, state = network.chunkwise(TOKENS, network.init_state(B), nearby=NEARBY)
    tiny.assert_close(network.parallel(TOKENS, nearby=NEARBY), want, dtype)
    recurrent = network.recurrent(TOKENS, network.init_state(B), nearby=NEARBY)
    tiny.assert_close(recurrent, (want, state), dtype)
    decoder, lazy = network.decoder(), decode_cache.begin(network, network.init_state(B), 8)
    stepped, step = network.init_state(B), jax.jit(lambda *inputs: network.step(*inputs))
    for i in range(0, T, 4):
        part = slice(i, i + 4)
        hidden, new = decode_cache.window(decoder, TOKENS[:, part], lazy, nearby=NEARBY[:, part])
        lazy = decode_cache.commit(decoder, lazy, new, jnp.full((B,), hidden.shape[1]))
        tiny.assert_close(hidden, want[:, part], dtype)
    for i in range(T):
        one, stepped = step(TOKENS[:, i], stepped, NEARBY[:, i])
        tiny.assert_close(one, want[:, i], dtype)
    tiny.assert_close(decode_cache.settle(decoder, lazy), state, dtype)


def test_it_begins_as_a_network_that_does_not_read_them():
    make = lambda config: RetNet(config, 40, CODES, rngs=nnx.Rngs(0))
    plain, network = make(tiny.NETWORK), make(CONFIG)
    want, _ = plain.chunkwise(TOKENS, plain.init_state(B))
    hidden, _ = network.chunkwise(TOKENS, network.init_state(B), nearby=NEARBY)
    np.testing.assert_array_equal(hidden, want)
    np.testing.assert_array_equal(network.logits(hidden, NEARBY), plain.logits(want))


def test_the_id_at_the_place_itself_gets_what_its_frame_s_pointer_gives():
    network = tiny.retnet(CONFIG)
    hidden = jnp.asarray(RNG.normal(size=(B, T, CONFIG.width)), jnp.float32)
    got = network.logits(hidden, NEARBY) - network.logits(hidden)
    given = np.asarray(hidden @ network.nearby.pointer[...])
    want = np.zeros((B, T, CODES))
    for row in range(B):
        for i in range(T):
            for frame in range(FRAMES):
                code = NEARBY[row, i, frame * TAPS + TAPS // 2]
                if code >= 0:
                    want[row, i, code] += given[row, i, frame]
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_only_what_is_there_counts_and_each_place_for_itself():
    network = tiny.retnet(CONFIG)
    read = lambda nearby: np.asarray(network.parallel(TOKENS, nearby=nearby))
    none = jnp.full_like(NEARBY, -1)
    np.testing.assert_array_equal(read(none), network.parallel(TOKENS))
    before = read(NEARBY)
    after = read(NEARBY.at[0, 5, 5].set((NEARBY[0, 5, 5] + 1) % CODES))
    changed = np.abs(after - before).max(axis=-1) > 0
    assert changed[0, 5:].all()
    assert not changed[0, :5].any()
    assert not changed[1].any()


def test_channels_below_none_are_refused():
    with pytest.raises(ValueError, match=r"RetNetConfig.nearby must be >= 0"):
        dataclasses.replace(CONFIG, nearby=-1)
