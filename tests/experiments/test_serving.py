"""Rows that come and go: each has the ids that it has alone, and a queue in virtual time."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.baselines import autoregressive, ways
from experiments.baselines.serving import Request, alone, cached_block, finished, served
from experiments.benches.serving import request
from fv_jax.config.model import PRESETS
from fv_jax.sequence.vocab import FREE

CELL = ways.Cell(pixels=16, frames=5, batch=1)


@pytest.fixture(scope="module")
def ours():
    return ways.RetNets(PRESETS["tiny"], ways.sequence(CELL, text_tokens=3, codes=400))


def test_rows_that_come_and_go_have_the_ids_that_they_have_alone(ours):
    requests = [request(ours, frames) for frames in (3, 1, 4, 2, 1)]
    keys = jax.random.split(jax.random.key(5), len(requests))
    together = served(ours, requests, keys, rows=2)
    for i, tokens in enumerate(requests):
        assert (together[i] != FREE).all()
        known = tokens != FREE
        np.testing.assert_array_equal(together[i][known], tokens[known])
        np.testing.assert_array_equal(together[i], alone(ours, tokens, keys[i]))
    assert not np.array_equal(together[1], together[4])  # another key


@pytest.mark.parametrize("places", [1, 2])
def test_a_block_of_the_transformer_has_the_ids_of_the_baseline(ours, places):
    params, graph, _ = ways.transformer(ours.config, ours.layout)
    tokens = np.stack([request(ours, 2)] * 2)
    keys = jax.random.split(jax.random.key(2), 2)
    want = autoregressive.cached(params, tokens, keys, graph=graph, sequence=ours.layout)
    first = ours.layout.stride - ours.layout.frame_tokens
    cache = nnx.merge(graph, params).init_state(2, tokens.shape[1])
    cache = dataclasses.replace(cache, position=jnp.zeros(places, jnp.int32))
    for block in np.split(np.asarray(want), 2, axis=1):
        ids, cache = cached_block(
            params, block[:, :first], keys, cache, graph=graph, layout=ours.layout
        )
        np.testing.assert_array_equal(ids, block[:, first:])


def at_once(*blocks):
    return [Request(0.0, n) for n in blocks]


def test_static_batches_wait_for_their_longest_and_continuous_ones_do_not():
    second = lambda rows, longest: 1.0
    blocks = at_once(1, 4, 1, 1)
    assert finished(blocks, second, rows=2, continuous=False) == [4, 4, 5, 5]
    assert finished(blocks, second, rows=2, continuous=True) == [1, 4, 2, 3]


def test_a_block_costs_what_its_rows_and_the_longest_of_them_say():
    seconds = lambda rows, longest: 10 * rows + longest
    assert finished(at_once(2, 1), seconds, rows=2, continuous=True) == [21 + 12, 21]
    assert finished(at_once(2, 1), seconds, rows=2, continuous=False) == [21 + 22, 21 + 22]


def test_nothing_begins_before_it_comes_and_none_waits_for_a_free_row():
    requests = [Request(5.0, 1), Request(5.5, 2), Request(20.0, 1)]
    second = lambda rows, longest: 1.0
    assert finished(requests, second, rows=2, continuous=True) == [6, 8, 21]
    assert finished(requests, second, rows=2, continuous=False) == [6, 8, 21]


@pytest.mark.parametrize("seed", range(5))
def test_both_are_the_same_where_all_want_as_much_at_once_or_there_is_one_row(seed):
    rng = np.random.default_rng(seed)
    seconds = lambda rows, longest: 1 + 0.1 * rows + 0.01 * longest
    times, blocks = np.sort(rng.random(20) * 30).tolist(), rng.integers(1, 9, 20).tolist()
    many = [Request(*pair) for pair in zip(times, blocks)]
    for requests, rows in [(many, 1), (at_once(*[3] * 12), 4)]:
        both = [finished(requests, seconds, rows=rows, continuous=c) for c in (False, True)]
        assert both[0] == both[1]
