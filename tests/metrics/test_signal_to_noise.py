"""PSNR: the reference tool's numbers, and numbers that follow from its definition."""

import numpy as np
import pytest
from places import FIXTURES

from fv_jax.metrics import psnr
from fv_jax.metrics.signal_to_noise import psnr_per_frame


@pytest.fixture(scope="module")
def pair():
    with np.load(FIXTURES / "video_pair.npz") as file:
        return dict(file)


def constant(level, shape=(2, 3, 64, 64, 3)):
    return np.full(shape, level, np.uint8)


def test_psnr_of_every_frame_is_the_reference_tools(pair):
    actual = psnr_per_frame(pair["real"], pair["fake"])
    np.testing.assert_allclose(actual, pair["psnr"], rtol=0, atol=1e-4)


def test_one_level_in_one_channel_of_one_pixel_counts():
    real, fake = constant(7, (1, 1, 64, 64, 3)), constant(7, (1, 1, 64, 64, 3))
    fake[0, 0, 5, 6, 1] = 8
    assert psnr(real, fake) == pytest.approx(89.0256162826968, abs=1e-4)


def test_uniform_error_has_the_psnr_of_its_size():
    assert psnr(constant(100), constant(110)) == pytest.approx(20 * np.log10(25.5), abs=1e-4)


def test_identical_frames_weigh_like_the_others():
    fake = constant(100)
    fake[:, 1:] = 110
    expected = (100 + 2 * 20 * np.log10(25.5)) / 3
    assert psnr(constant(100), fake) == pytest.approx(expected, abs=1e-4)


def test_a_large_frame_loses_no_digits():
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (1, 1080, 1920, 3), dtype=np.uint8)
    fake = rng.integers(0, 256, (1, 1080, 1920, 3), dtype=np.uint8)
    error = np.mean((real.astype(float) - fake) ** 2) / 255**2
    assert psnr_per_frame(real, fake)[0] == pytest.approx(-10 * np.log10(error), abs=1e-5)
