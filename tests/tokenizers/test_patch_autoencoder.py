"""What an id can see: its own patch, and `halo` px around it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from fv_jax.tokenizers.patch_autoencoder import PatchAutoencoder

PATCH = tiny.TOKENIZER.patch
ROW, COLUMN = 1, 2  # of the patch that is changed; the grid is 4x5


def autoencoder(**changes):
    config = dataclasses.replace(tiny.TOKENIZER, **changes)
    return tiny.randomised(lambda: PatchAutoencoder(config, rngs=nnx.Rngs(0)))


def pixels():
    return jax.random.uniform(jax.random.key(0), (1, 4 * PATCH, 5 * PATCH, 3), minval=-1)


def changed_latents(model, inset: int):
    """Which latents change when a patch does, all but a border of `inset` px."""
    inner = slice(inset, PATCH - inset)
    rows = np.arange(ROW * PATCH, (ROW + 1) * PATCH)[inner]
    columns = np.arange(COLUMN * PATCH, (COLUMN + 1) * PATCH)[inner]
    latent = jax.jit(model.latent)
    before = latent(pixels())
    after = latent(pixels().at[:, rows[:, None], columns].multiply(-1))
    return np.asarray((before != after).any((0, -1)))


def test_without_a_halo_only_the_patchs_own_latent_changes():
    changed = changed_latents(autoencoder(), inset=0)
    assert np.argwhere(changed).tolist() == [[ROW, COLUMN]]


def test_with_a_halo_the_eight_neighbors_change_and_nothing_further_away():
    changed = changed_latents(autoencoder(halo=2), inset=0)
    near = [[r, c] for r in (0, 1, 2) for c in (1, 2, 3)]
    assert np.argwhere(changed).tolist() == near


def test_pixels_further_in_than_the_halo_are_the_patchs_own():
    changed = changed_latents(autoencoder(halo=2), inset=2)
    assert np.argwhere(changed).tolist() == [[ROW, COLUMN]]


@pytest.mark.parametrize("halo", [0, 2])
def test_equal_patches_have_equal_latents_wherever_they_are(halo):
    tile = jax.random.uniform(jax.random.key(1), (PATCH, PATCH, 3))
    latent = jax.jit(autoencoder(halo=halo).latent)(jnp.tile(tile, (4, 5, 1))[None])[0]
    inner = latent[1:-1, 1:-1] if halo else latent  # at the edge, a halo sees the edge
    np.testing.assert_allclose(inner, jnp.broadcast_to(inner[0, 0], inner.shape), atol=1e-6)


@pytest.mark.parametrize("depth", [1, 2])
def test_the_decoder_reaches_one_id_per_convolution(depth):
    model = autoencoder(decoder_depth=depth)
    decode = jax.jit(model.pixels)
    codes = jnp.zeros((1, 9, 9, 3))
    difference = decode(codes) != decode(codes.at[0, 4, 4].set(1))
    patches = difference.reshape(9, PATCH, 9, PATCH, 3).any((1, 3, 4))
    near = np.abs(np.mgrid[:9, :9] - 4).max(0) <= 1 + depth  # from_code is one, too
    np.testing.assert_array_equal(patches, near)


def test_pixels_of_a_patch_are_painted_row_by_row():
    model = autoencoder()
    tile = np.random.default_rng(0).normal(size=(PATCH, PATCH, 3)).astype(np.float32)
    model.to_pixels.kernel[...] = jnp.zeros_like(model.to_pixels.kernel[...])
    model.to_pixels.bias[...] = jnp.asarray(tile.ravel())
    painted = model.pixels(jnp.zeros((1, 2, 3, 3)))
    np.testing.assert_array_equal(painted[0], np.tile(tile, (2, 3, 1)))
