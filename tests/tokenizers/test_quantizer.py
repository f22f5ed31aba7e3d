"""FSQ: arithmetic codebook, straight-through gradient, hysteresis."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fv_jax.tokenizers.quantizer import FSQ, hysteresis

LEVELS = [(3,), (4, 3, 6), (5, 5, 5, 5, 4), (8, 5, 5, 5), (8, 5, 5, 5, 5, 4)]


def latent_of(codes, levels):
    """A latent whose bounded value is nearest to the given codes: the inverse of `bound`."""
    levels = np.asarray(levels, float)
    half = (levels - 1) * (1 - 1e-3) / 2
    offset = np.where(levels % 2 == 0, 0.5, 0.0)
    steps = np.round(codes * (levels // 2))
    inside = np.clip((steps + offset) / half, -0.999999, 0.999999)
    return jnp.asarray(np.arctanh(inside) - np.arctanh(offset / half), jnp.float32)


@pytest.mark.parametrize("levels", LEVELS)
def test_every_id_has_codes_of_its_own_and_a_latent_that_gives_it(levels):
    fsq = FSQ(levels)
    ids = jnp.arange(fsq.codebook_size)
    codes = fsq.codes(ids)
    assert len(np.unique(np.asarray(codes), axis=0)) == fsq.codebook_size
    z = latent_of(np.asarray(codes, float), levels)
    np.testing.assert_array_equal(fsq.ids(jnp.round(fsq.bound(z))), ids)
    np.testing.assert_allclose(fsq.quantize(z), codes, atol=1e-6)


@pytest.mark.parametrize("levels", LEVELS)
def test_codes_are_evenly_spaced_and_within_one(levels):
    codes = np.asarray(FSQ(levels).codes(jnp.arange(FSQ(levels).codebook_size)))
    for channel, level in enumerate(levels):
        values = np.unique(codes[:, channel])
        assert len(values) == level
        np.testing.assert_allclose(np.diff(values), 1 / (level // 2), atol=1e-6)
        assert np.abs(values).max() == 1


@pytest.mark.parametrize("levels", LEVELS)
def test_no_latent_leaves_the_codebook(levels):
    fsq = FSQ(levels)
    z = jnp.concatenate([jnp.linspace(-4, 4, 999), jnp.asarray([-1e30, 1e30])])
    z = jnp.broadcast_to(z[:, None], (1001, len(levels)))
    ids = np.asarray(fsq.ids(jnp.round(fsq.bound(z))))
    assert ids.min() == 0
    assert ids.max() == fsq.codebook_size - 1


@pytest.mark.parametrize("levels", [(5, 4), (8, 3, 7)])
def test_gradient_goes_straight_through_the_rounding(levels):
    fsq = FSQ(levels)
    z = jax.random.normal(jax.random.key(0), (20, len(levels)))
    weight = jax.random.normal(jax.random.key(1), z.shape)
    gradient = jax.grad(lambda z: jnp.sum(fsq.quantize(z) * weight))(z)
    half = (np.asarray(levels) - 1) * (1 - 1e-3) / 2
    offset = np.where(np.asarray(levels) % 2 == 0, 0.5, 0.0)
    slope = half * (1 - np.tanh(np.asarray(z, float) + np.arctanh(offset / half)) ** 2)
    expected = np.asarray(weight) * slope / (np.asarray(levels) // 2)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("levels", [(), (5, 2), (0,)])
def test_levels_that_make_no_codebook_are_refused(levels):
    with pytest.raises(ValueError, match="levels must be integers >= 3"):
        FSQ(levels)


# Quarters hit the ties of rounding, too.
PATHS = hnp.arrays(np.float32, (12, 3), elements=st.integers(-8, 8).map(lambda n: n / 4))


@hypothesis.given(PATHS)
def test_hysteresis_of_zero_is_rounding(path):
    np.testing.assert_array_equal(hysteresis(path, 0.0), np.round(path))


@hypothesis.given(PATHS, st.sampled_from([0.0, 0.15, 0.4]))
def test_hysteresis_never_strays_further_than_delta_beyond_half_a_step(path, delta):
    levels = np.asarray(hysteresis(path, delta))
    assert (levels == np.round(levels)).all()
    assert (np.abs(levels - path) <= 0.5 + delta).all()


@hypothesis.given(PATHS, st.lists(st.booleans(), min_size=12, max_size=12))
def test_an_input_that_stays_keeps_its_level_exactly(path, repeats):
    for frame in range(1, 12):
        if repeats[frame]:
            path[frame] = path[frame - 1]
    levels = np.asarray(hysteresis(path, 0.15))
    for frame in range(1, 12):
        if repeats[frame]:
            np.testing.assert_array_equal(levels[frame], levels[frame - 1])


def test_a_channel_on_the_edge_of_two_levels_holds_still_until_it_moves_by_delta():
    path = np.float32([0.45, 0.55, 0.48, 0.64, 0.66, 0.55, 0.36, 0.34])[:, None]
    levels = hysteresis(path, 0.15)[:, 0]
    assert levels.tolist() == [0, 0, 0, 0, 1, 1, 1, 0]
    assert np.round(path)[:, 0].tolist() == [0, 1, 0, 1, 1, 1, 0, 0]
