"""Before the first step a tokenizer is a codec already, whatever the clips look like."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from fv_jax.config.model import TokenizerConfig
from fv_jax.metrics import psnr
from fv_jax.tokenizers.code_use import CodeUse
from fv_jax.tokenizers.fsq import FSQTokenizer
from fv_jax.tokenizers.patch_autoencoder import PatchAutoencoder
from fv_jax.training.tasks.tokenizer_start import codec_start

CONFIG = TokenizerConfig(levels=(8, 5, 5, 5), patch=4, width=48, encoder_depth=1, decoder_depth=1)


def discs(colors, seed=0, count=24):
    """Frames of a disc over a plain ground, each of colors of its own, uint8 [count, 32, 32, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32]
    frames = []
    for _ in range(count):
        ground, disc = colors(rng), colors(rng)
        inside = (x - rng.uniform(8, 24)) ** 2 + (y - rng.uniform(8, 24)) ** 2 < 64
        frames.append(np.where(inside[..., None], disc, ground))
    return np.stack(frames).astype(np.uint8)


KINDS = {
    "any colors": lambda rng: rng.integers(0, 256, 3),
    "dark": lambda rng: rng.integers(0, 24, 3),
    "bright": lambda rng: rng.integers(232, 256, 3),
    "gray": lambda rng: np.full(3, rng.integers(0, 256)),
    "one picture": lambda rng: np.asarray([60, 90, 200]) + rng.integers(0, 3, 3),
}


def started(frames, config=CONFIG, seed=0):
    model = PatchAutoencoder(config, rngs=nnx.Rngs(seed))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    return FSQTokenizer(config, codec_start(config, params, frames))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_frames_are_seen_before_any_step(kind, seed):
    tokenizer = started(discs(KINDS[kind], seed), seed=seed)
    unseen = discs(KINDS[kind], seed + 10)
    assert psnr(unseen[None], tokenizer.decode(tokenizer.encode(unseen))[None]) > 20


@pytest.mark.parametrize("kind", ["any colors", "dark", "bright", "gray"])
def test_codes_are_spread_before_any_step(kind):
    frames = discs(KINDS[kind])
    ids = started(frames).encode(frames)
    use = CodeUse.of([ids], 1000)
    assert not use.problem
    assert use.used >= 30
    patches = frames.reshape(-1, 8, 4, 8, 4, 3).swapaxes(2, 3).reshape(ids.size, -1)
    _, first = np.unique(patches, axis=0, return_index=True)
    counts = np.bincount(ids.ravel()[first])
    assert counts.max() < 0.6 * len(first)  # of the patches that are not alike


def test_every_level_of_every_channel_is_in_use_on_noise():
    frames = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3)).astype(np.uint8)
    smooth = frames[:, ::8, ::8].repeat(8, 1).repeat(8, 2) // 2 + frames // 2
    ids = started(smooth).encode(smooth)
    for stride, level in zip((1, 8, 40, 200), CONFIG.levels):
        assert len(np.unique(ids // stride % level)) == level


def test_noise_of_a_camera_is_not_spread_over_the_codes():
    rng = np.random.default_rng(0)
    still = np.full((24, 32, 32, 3), 100) + rng.integers(-1, 2, (24, 32, 32, 3))
    ids = started(still.astype(np.uint8)).encode(still.astype(np.uint8))
    assert np.bincount(ids.ravel()).max() > 0.5 * ids.size


def test_the_start_is_a_function_of_weights_and_frames():
    frames = discs(KINDS["any colors"])
    one, other = started(frames), started(frames)
    assert one.fingerprint() == other.fingerprint()
    assert one.fingerprint() != started(frames[:12]).fingerprint()


@pytest.mark.parametrize("halo", [0, 1])
def test_an_id_still_depends_on_its_patch_alone(halo):
    frames = discs(KINDS["any colors"])
    tokenizer = started(frames, dataclasses.replace(CONFIG, halo=halo))
    changed = frames.copy()
    changed[:, 8:12, 8:12] = 255 - changed[:, 8:12, 8:12]
    far = np.ones((8, 8), bool)
    far[2 - halo : 3 + halo, 2 - halo : 3 + halo] = False
    before, after = tokenizer.encode(frames), tokenizer.encode(changed)
    np.testing.assert_array_equal(before[:, far], after[:, far])
    assert (before[:, 2, 2] != after[:, 2, 2]).any()


def test_the_weights_given_stay_as_they_are():
    model = PatchAutoencoder(CONFIG, rngs=nnx.Rngs(0))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    before = jax.tree.map(np.array, params)
    codec_start(CONFIG, params, discs(KINDS["gray"]))
    jax.tree.map(np.testing.assert_array_equal, params, before)
