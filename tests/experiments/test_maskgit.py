"""The masked transformer baseline trains, and samples as its papers say."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from experiments.baselines.maskgit import STEPS, MaskGit, fill_step, loss, masked_after, sample
from fv_jax.config.model import SequenceConfig
from fv_jax.generation.policies import Sampling
from fv_jax.sequence.vocab import FREE

SEQUENCE = SequenceConfig(
    text_tokens=3, frame_grid=(3, 4), text_vocabulary=20, frame_codes=12, serial_numbers=7
)
FRAMES, SHAPE = 3, (3, 3, 4)
N = int(np.prod(SHAPE))
CONFIG = dataclasses.replace(tiny.NETWORK, width=32)
GREEDY = Sampling(temperature=0.0)


@functools.cache
def network():
    return tiny.randomised(lambda: MaskGit(CONFIG, SEQUENCE, FRAMES, rngs=nnx.Rngs(0)))


def text(rows=2):
    return jax.random.randint(jax.random.key(1), (2, 3), 1, 21)[:rows]


def unknown(rows=2):
    return jnp.full((rows, *SHAPE), FREE)


def keys(rows=2):
    return jax.vmap(jax.random.key)(jnp.arange(rows))


def run(codes, net=None, **settings):
    graph, params = nnx.split(net or network())
    rows = len(codes)
    return np.asarray(sample(params, text(rows), codes, keys(rows), graph=graph, **settings))


def test_ids_are_filled_on_the_cosine_schedule_and_then_kept():
    given = unknown().at[:, 0].set(5)
    masked = np.sum(np.asarray(given) == FREE, axis=(1, 2, 3))
    step = jax.jit(
        functools.partial(fill_step, policy=Sampling(), steps=STEPS, choice_temperature=4.5)
    )
    codes = given
    for i in range(STEPS):
        before, codes = (
            np.asarray(codes),
            step(network(), text(), codes, jnp.asarray(masked), i, keys()),
        )
        free = np.asarray(codes) == FREE
        want = np.floor(np.minimum(24 * np.cos(np.pi / 2 * (i + 1) / STEPS), 24 - i - 1) + 1e-6)
        np.testing.assert_array_equal(free.sum(axis=(1, 2, 3)), [want, want])
        np.testing.assert_array_equal(before[before != FREE], np.asarray(codes)[before != FREE])
    assert (codes >= 0).all()
    assert (codes < 12).all()
    np.testing.assert_array_equal(codes, run(given))


def test_of_many_ids_as_many_are_masked_as_the_cosine_says():
    count = jnp.array([6400])
    got = [int(masked_after(jnp.asarray(i), count, STEPS)[0]) for i in range(STEPS)]
    want = [6345, 6181, 5912, 5542, 5077, 4525, 3896, 3200, 2449, 1656, 835, 0]
    assert got == want


def test_a_rows_video_depends_on_its_own_key_and_text_only():
    both = run(unknown())
    np.testing.assert_array_equal(both[:1], run(unknown(1)))
    assert (both[0] != both[1]).any()
    assert len(np.unique(both)) > 3


def test_the_likeliest_id_of_one_step_is_that_of_the_networks_scores():
    given = unknown().at[:, 0].set(5)
    logits = jax.jit(network())(text(), given)
    want = logits.argmax(-1).reshape(2, *SHAPE).at[:, 0].set(5)
    np.testing.assert_array_equal(run(given, policy=GREEDY, steps=1), want)


def test_every_token_matters_to_every_other_one():
    net = network()
    score = jax.jit(net)
    codes = jnp.full((1, *SHAPE), 3)
    before = score(text(1), codes)
    first, last = codes.at[0, 0, 0, 0].set(FREE), codes.at[0, -1, -1, -1].set(FREE)
    changed = [(text(1), first), (text(1), last), (text(1).at[0, 2].add(-1), codes)]
    for inputs in changed:
        other = score(*inputs)
        assert (jnp.abs(other - before).max(-1) > 1e-5).all()


def test_places_differ_by_frame_row_and_column():
    logits = jax.jit(network())(text(1), unknown(1)).reshape(*SHAPE, 12)
    for other in (logits[1, 0, 0], logits[0, 1, 0], logits[0, 0, 1]):
        assert jnp.abs(other - logits[0, 0, 0]).max() > 1e-3


def test_loss_is_that_of_masked_ids():
    """With scores that are all equal it is log V; known ids do not count."""
    net = nnx.clone(network())
    net.head[...] = jnp.zeros_like(net.head[...])
    codes = jax.random.randint(jax.random.key(4), (2, *SHAPE), 0, 12)
    value = jax.jit(loss)(net, text(), codes, jax.random.key(0))
    assert np.allclose(value, np.log(12))


@pytest.mark.slow
def test_it_memorises_two_videos():
    graph, params = nnx.split(network())
    codes = jax.random.randint(jax.random.key(4), (2, *SHAPE), 0, 12)
    of = lambda params, key: loss(nnx.merge(graph, params), text(), codes, key)
    params, values = tiny.fit(of, params, steps=150)
    assert np.mean(values[-5:]) < 0.1 * values[0]
    np.testing.assert_array_equal(run(unknown(), nnx.merge(graph, params), policy=GREEDY), codes)


def test_inputs_of_another_shape_are_an_error():
    with pytest.raises(
        ValueError, match=r"codes must have shape \(2, 3, 3, 4\), got \(2, 2, 3, 4\)"
    ):
        run(unknown()[:, 1:])
    with pytest.raises(ValueError, match="steps must be >= 1, got 0"):
        run(unknown(), steps=0)
