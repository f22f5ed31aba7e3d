"""Policies: which tokens can be chosen, how often, and from which noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from fv_jax.generation.policies import Sampling, _pcg3d, _uniform, position_noise

LOGITS = np.float32([2.0, 1.5, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -3.0, 1.2])
SAMPLES = 40_000


def softmax(logits):
    weights = np.exp(np.asarray(logits, np.float64))
    return weights / weights.sum()


def kept(policy, logits):
    """Indices that the filter leaves, per row."""
    return [set(np.flatnonzero(row > -np.inf)) for row in policy.filter(jnp.asarray(logits))]


@functools.partial(jax.jit, static_argnames="policy")
def draw(policy, logits):
    """SAMPLES draws, each at a position of its own."""
    keys = jnp.broadcast_to(jax.random.key(7), (SAMPLES,))
    noise = position_noise(keys, jnp.arange(SAMPLES), logits.shape[-1])
    return policy(jnp.broadcast_to(logits, (SAMPLES, logits.shape[-1])), noise)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Sampling(), softmax(LOGITS)),
        (Sampling(temperature=0.5), softmax(LOGITS / 0.5)),
        (Sampling(temperature=2.0), softmax(LOGITS / 2)),
        (Sampling(top_k=4), softmax(np.where(LOGITS >= 1.2, LOGITS, -np.inf))),
        # The likeliest have 0.28, 0.17, 0.17 and 0.13: four of them reach 0.75.
        (Sampling(top_p=0.75), softmax(np.where(LOGITS >= 1.2, LOGITS, -np.inf))),
        (
            Sampling(temperature=0.7, top_k=6, top_p=0.8),
            softmax(np.where(LOGITS >= 1.2, LOGITS / 0.7, -np.inf)),
        ),
    ],
    ids=["plain", "cold", "hot", "top-k", "top-p", "all three"],
)
def test_tokens_are_drawn_with_their_probability(policy, expected):
    counts = np.bincount(draw(policy, jnp.asarray(LOGITS)), minlength=len(LOGITS))
    possible = expected > 0
    assert (counts[~possible] == 0).all()
    assert scipy.stats.chisquare(counts[possible], SAMPLES * expected[possible]).pvalue > 0.001


def test_temperature_zero_takes_the_likeliest_whatever_the_noise():
    logits = jax.random.normal(jax.random.key(0), (50, 8))
    noise = 1e6 * jax.random.normal(jax.random.key(1), (50, 8))
    chosen = Sampling(temperature=0.0, top_k=3, top_p=0.2)(logits, noise)
    np.testing.assert_array_equal(chosen, logits.argmax(-1))
    assert chosen.dtype == jnp.int32


@pytest.mark.parametrize("k", [1, 2, 5, 10])
def test_top_k_keeps_the_k_likeliest_unchanged(k):
    logits = np.asarray(jax.random.normal(jax.random.key(0), (20, 10)))
    order = np.argsort(-logits, axis=-1)
    assert kept(Sampling(top_k=k), logits) == [set(row[:k]) for row in order]
    filtered = np.asarray(Sampling(top_k=k).filter(jnp.asarray(logits)))
    np.testing.assert_array_equal(filtered[filtered > -np.inf], logits[filtered > -np.inf])


@pytest.mark.parametrize("k", [0, 11])
def test_top_k_of_zero_or_more_than_all_keeps_all(k):
    assert kept(Sampling(top_k=k), LOGITS[None]) == [set(range(10))]


@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.9, 0.999])
def test_top_p_keeps_the_fewest_that_reach_p(p):
    logits = np.asarray(jax.random.normal(jax.random.key(0), (20, 10)) * 2)
    for row, chosen in zip(logits, kept(Sampling(top_p=p), logits)):
        probability = softmax(row.astype(np.float64))
        order = np.argsort(-row)
        fewest = next(n for n in range(1, 11) if probability[order[:n]].sum() >= p)
        assert chosen == set(order[:fewest])


def test_top_p_of_one_keeps_all_however_unlikely():
    assert kept(Sampling(top_p=1.0), [[0.0, -80.0, -200.0]]) == [{0, 1, 2}]


def test_top_p_looks_at_what_top_k_has_left():
    # All four: 0.44, 0.24, 0.16, 0.16. Of the first two, the first has 0.65 and is enough.
    logits = np.log([[0.44, 0.24, 0.16, 0.16]])
    assert kept(Sampling(top_p=0.6), logits) == [{0, 1}]
    assert kept(Sampling(top_p=0.6, top_k=2), logits) == [{0}]


def test_tokens_as_likely_as_the_last_one_kept_are_kept():
    assert kept(Sampling(top_k=2), LOGITS[None]) == [{0, 1, 2}]
    assert kept(Sampling(top_p=0.35), LOGITS[None]) == [{0, 1, 2}]


def test_temperature_comes_before_top_p():
    # Cold: 0.44^2 / (0.44^2 + 0.24^2 + 2 * 0.16^2) = 0.64 reaches 0.6 alone.
    logits = jnp.log(jnp.asarray([[0.44, 0.24, 0.16, 0.16]]))
    noise = jnp.asarray([[0.0, 100.0, 100.0, 100.0]])
    assert int(Sampling(temperature=0.5, top_p=0.6)(logits, noise)[0]) == 0
    assert int(Sampling(temperature=1.0, top_p=0.6)(logits, noise)[0]) == 1


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-38, 1e-45, 5e-324])
@pytest.mark.parametrize("more", [{}, {"top_k": 3}, {"top_p": 0.5}])
def test_the_colder_the_more_as_temperature_0(temperature, more):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(200, 12)) * 30, jnp.float32)
    noise = jnp.asarray(rng.gumbel(size=(200, 12)), jnp.float32)
    chosen = jax.jit(Sampling(temperature, **more))(logits, noise)
    np.testing.assert_array_equal(chosen, Sampling(0.0)(logits, noise))


def test_noise_depends_on_the_key_and_the_position_only():
    one, two = jax.random.key(1), jax.random.key(2)
    noise = position_noise(jnp.stack([one, two, one]), jnp.asarray([5, 5, 6]), 8)
    # Elsewhere in the batch, beside other rows: the same numbers.
    again = position_noise(jnp.stack([two, one]), jnp.asarray([5, 5]), 8)
    np.testing.assert_array_equal(again, noise[jnp.asarray([1, 0])])
    for a in range(3):
        for b in range(a):
            assert (noise[a] != noise[b]).all()


def test_uniform_numbers_are_never_0_or_1():
    bits = jnp.asarray([0, 1, 2**9 - 1, 2**31, 2**32 - 2**9, 2**32 - 1], jnp.uint32)
    uniform = np.asarray(_uniform(bits), np.float64)
    np.testing.assert_array_equal(uniform * 2**24 % 2, 1)  # halves of 2^-23: nothing was rounded
    assert 0 < uniform.min() < uniform.max() < 1
    assert np.isfinite(-np.log(-np.log(np.float32(uniform)))).all()


def test_the_hash_is_pcg3d():
    """As its authors write it, in whole numbers modulo 2^32: a seed's video depends on it."""
    words = np.random.default_rng(0).integers(0, 2**32, (50, 3), dtype=np.uint32)
    for given, found in zip(words.tolist(), _pcg3d(*map(jnp.asarray, words.T)).tolist()):
        x, y, z = ((v * 1664525 + 1013904223) % 2**32 for v in given)
        x = (x + y * z) % 2**32
        y = (y + z * x) % 2**32
        z = (z + x * y) % 2**32
        x, y, z = (v ^ v >> 16 for v in (x, y, z))
        assert found == (x + y * z) % 2**32


def test_noise_is_standard_gumbel():
    keys = jnp.broadcast_to(jax.random.key(3), (2000,))
    noise = np.asarray(position_noise(keys, jnp.arange(2000), 10)).ravel()
    assert scipy.stats.kstest(noise, "gumbel_r").pvalue > 0.001
