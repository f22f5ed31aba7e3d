"""The two samplers of the transformer baseline sample what they should."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from experiments.baselines.attention import Transformer
from experiments.baselines.autoregressive import cached, uncached
from fv_jax.config.model import SequenceConfig
from fv_jax.generation.policies import Sampling, gumbel, position_words
from fv_jax.sequence.vocab import FREE, Vocab

SEQUENCE = SequenceConfig(
    text_tokens=3, frame_grid=(1, 5), text_vocabulary=20, frame_codes=12, serial_numbers=7
)
STRIDE, HEADER, START = SEQUENCE.stride, 4, Vocab(SEQUENCE).frame_start
M = 2
SAMPLERS = {"cached": cached, "uncached": uncached}


@functools.cache
def network():
    config = dataclasses.replace(tiny.NETWORK, layers=1)
    make = lambda: Transformer(config, Vocab(SEQUENCE).size, 12, rngs=nnx.Rngs(0))
    return tiny.randomised(make)


def inputs(rows, known=0):
    """Tokens [rows, L] whose frames are FREE after the first `known` ones."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(1, START, size=(3, M, STRIDE))
    tokens[:, :known, HEADER:] = rng.integers(START, START + 12, size=(3, known, 5))
    tokens[:, known:, HEADER:] = FREE
    return jnp.asarray(tokens[:rows].reshape(rows, -1), jnp.int32)


def run(sampler, tokens, temperature=1.0, known=0):
    graph, params = nnx.split(network())
    keys = jax.vmap(jax.random.key)(jnp.arange(len(tokens)))
    return np.asarray(
        SAMPLERS[sampler](
            params, tokens, keys, graph=graph, sequence=SEQUENCE,
            policy=Sampling(temperature=temperature), known_frames=known,
        )
    )  # fmt: skip


@pytest.mark.parametrize(("rows", "temperature"), [(1, 0.0), (3, 1.0)])
def test_every_id_is_the_choice_from_the_logits_of_all_tokens_before_it(rows, temperature):
    given = inputs(rows)
    with_cache = run("cached", given, temperature)
    np.testing.assert_array_equal(with_cache, run("uncached", given, temperature))

    net = network()
    read = jax.jit(lambda tokens: net.logits(net.read(tokens, net.init_state(rows, M * STRIDE))[0]))
    keys = jax.vmap(jax.random.key)(jnp.arange(rows))
    places = jnp.broadcast_to(jnp.arange(1, M * STRIDE), (rows, M * STRIDE - 1))
    noise = gumbel(position_words(keys, places), 12)
    want = Sampling(temperature=temperature)(read(with_cache)[:, :-1], noise) + START
    free = np.asarray(given) == FREE
    np.testing.assert_array_equal(with_cache[:, 1:][free[:, 1:]], want[free[:, 1:]])
    np.testing.assert_array_equal(with_cache[~free], np.asarray(given)[~free])
    assert len(np.unique(with_cache[free])) > 1


def test_a_rows_ids_do_not_depend_on_the_other_rows():
    alone, among = run("cached", inputs(1)), run("cached", inputs(3))
    np.testing.assert_array_equal(alone[0], among[0])
    assert (among[0] != among[1]).any()


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_given_frames_and_given_ids_are_kept_and_matter(sampler):
    given = inputs(1, known=1).at[0, STRIDE + HEADER + 2].set(START + 5)
    tokens = run(sampler, given, known=1)
    np.testing.assert_array_equal(tokens, run("cached", given, known=0))
    kept = np.asarray(given) != FREE
    np.testing.assert_array_equal(tokens[kept], np.asarray(given)[kept])
    other = given.at[0, HEADER].set(START + (given[0, HEADER] - START + 1) % 12)
    assert (run(sampler, other, known=1)[~kept] != tokens[~kept]).any()


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_part_of_a_block_or_nothing_to_sample_is_an_error(sampler):
    with pytest.raises(ValueError, match=r"whole blocks of 9, got 17"):
        run(sampler, inputs(1)[:, :-1])
    with pytest.raises(ValueError, match=r"known_frames must be in 0..1, got 2"):
        run(sampler, inputs(1), known=2)
