"""Every baseline has the parameters of the RetNet beside it."""

import itertools

import pytest
from flax import nnx

from experiments.baselines import sizes
from experiments.baselines.attention import Transformer
from experiments.baselines.maskgit import MaskGit
from fv_jax.config.model import PRESETS, RetNetConfig, SequenceConfig
from fv_jax.sequence.vocab import Vocab

GRIDS, CODES, FRAMES = ((8, 8), (16, 16), (20, 20)), (400, 1024, 20_000), (5, 16)


def near(got, config, sequence):
    return abs(got / sizes.retnet(config, sequence) - 1) <= 0.05


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("codes", CODES)
def test_transformer(preset, codes):
    config, sequence = PRESETS[preset], SequenceConfig(frame_codes=codes)
    found, size = sizes.transformer(config, sequence), Vocab(sequence).size
    got = sizes.parameters(lambda: Transformer(found, size, codes, rngs=nnx.Rngs(0)))
    assert near(got, config, sequence)


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("codes", CODES)
def test_maskgit(preset, codes):
    config = PRESETS[preset]
    for (h, w), frames in itertools.product(GRIDS, FRAMES):
        sequence = SequenceConfig(frame_grid=(h, w), frame_codes=codes)
        found = sizes.maskgit(config, sequence, frames)
        got = sizes.parameters(lambda: MaskGit(found, sequence, frames, rngs=nnx.Rngs(0)))  # noqa: B023
        assert near(got, config, sequence)
        assert found.matmul_dtype == config.matmul_dtype


@pytest.mark.slow
@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("codes", CODES)
def test_video_diffusion(preset, codes):
    """It has no ids, so the grid does not matter."""
    config, sequence = PRESETS[preset], SequenceConfig(frame_codes=codes)
    for frames in FRAMES:
        found = sizes.video_diffusion(config, sequence, frames)
        assert near(sizes.unet(found), config, sequence)
        assert found.matmul_dtype == config.matmul_dtype
        assert (found.frames, 160 % found.downsample) == (frames, 0)


def test_what_cannot_be_matched_is_an_error():
    sequence = SequenceConfig(frame_codes=2, text_vocabulary=1)
    narrow_values = RetNetConfig(width=32, heads=2, value_width=8, hidden=8)
    with pytest.raises(ValueError, match=r"the transformer has 36,576 parameters, wanted 15,328"):
        sizes.transformer(narrow_values, sequence)
    with pytest.raises(ValueError, match=r"the MaskGIT has 18,\d+ parameters, wanted 15,328"):
        sizes.maskgit(narrow_values, sequence, 5)
