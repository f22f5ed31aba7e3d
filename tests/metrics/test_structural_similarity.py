"""SSIM: the reference tool's numbers."""

import numpy as np
import pytest
from places import FIXTURES

from fv_jax.metrics import ssim


@pytest.fixture(scope="module")
def pair():
    with np.load(FIXTURES / "video_pair.npz") as file:
        return dict(file)


def test_ssim_of_every_frame_is_the_reference_tools(pair):
    for frame, expected in enumerate(pair["ssim"]):
        one = (pair[name][None, frame : frame + 1] for name in ("real", "fake"))
        assert ssim(*one) == pytest.approx(expected, abs=2e-5)


def test_ssim_refuses_frames_smaller_than_its_window():
    small = np.zeros((1, 1, 64, 10, 3), np.uint8)
    with pytest.raises(ValueError, match="11x11 px, got 64x10"):
        ssim(small, small)
