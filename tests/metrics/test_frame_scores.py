"""PSNR and SSIM: known constants, and numbers of the tool that the papers used.

`fixtures/video_pair.npz` holds four frames of a true and a generated video [4, 64, 64, 3] and their
scores by JunyaoHu/common_metrics_on_video_quality (5f75173), run with torch and OpenCV. More of
them are in `fixtures/metrics`.
"""

import inspect

import jax
import numpy as np
import pytest
import reference_metrics
from places import FIXTURES

from fv_jax.metrics import psnr, ssim
from fv_jax.metrics.frame_scores import frame_scores, per_frame
from fv_jax.metrics.signal_to_noise import PSNR, psnr_per_frame
from fv_jax.metrics.structural_similarity import SSIM
from fv_jax.metrics.videos import NamedClip

REFERENCE = FIXTURES / "video_pair.npz"
SHAPE = (2, 3, 64, 64, 3)


@pytest.fixture(scope="module")
def pair():
    with np.load(REFERENCE) as file:
        return dict(file)


def constant(level, shape=SHAPE):
    return np.full(shape, level, np.uint8)


def noise(seed=0):
    return np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8)


def test_scores_of_videos_are_the_means_over_their_frames(pair):
    videos = [pair[name].reshape(2, 2, 64, 64, 3) for name in ("real", "fake")]
    assert psnr(*videos) == pytest.approx(pair["psnr"].mean(), abs=1e-4)
    assert ssim(*videos) == pytest.approx(pair["ssim"].mean(), abs=2e-5)


def test_identical_videos_have_100_db_and_ssim_1():
    assert psnr(noise(), noise()) == 100
    assert ssim(noise(), noise()) == pytest.approx(1, abs=1e-6)


def test_black_against_white():
    assert psnr(constant(0), constant(255)) == pytest.approx(0, abs=1e-6)
    assert ssim(constant(0), constant(255)) == pytest.approx(9.999e-05, rel=1e-4)


def test_scores_are_symmetric_and_fall_with_noise():
    real, rng = noise(), np.random.default_rng(1)
    scores = []
    for sigma in (5, 40):
        fake = np.clip(real + rng.normal(scale=sigma, size=SHAPE), 0, 255).astype(np.uint8)
        scores.append((psnr(real, fake), ssim(real, fake)))
        assert (psnr(fake, real), ssim(fake, real)) == pytest.approx(scores[-1])
    assert scores[0][0] > scores[1][0]
    assert scores[0][1] > scores[1][1]


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_videos_of_different_shapes_are_refused(metric):
    with pytest.raises(
        ValueError, match=r"fake\[0\]: got 2 frames of 64.*, want 3 .* as real\[0\] has"
    ):
        metric(constant(0), constant(0)[:, :2])
    with pytest.raises(ValueError, match="in pairs: real has 2, fake has 1"):
        metric(constant(0), constant(0)[:1])
    with pytest.raises(ValueError, match="no clips in real"):
        metric(constant(0)[:0], constant(0)[:0])


def test_frames_of_different_shapes_are_refused():
    unchecked = inspect.unwrap(psnr_per_frame)  # the tests' check of annotations would come first
    with pytest.raises(ValueError, match="same shape"):
        unchecked(constant(0, (3, 64, 64, 3)), constant(0, (3, 64, 32, 3)))
    with pytest.raises(ValueError, match="with a frame"):
        unchecked(constant(0, (0, 64, 64, 3)), constant(0, (0, 64, 64, 3)))


@pytest.mark.parametrize("batch", [5, 16, 1000])
def test_all_frames_score_as_with_the_reference_tool(batch):
    videos = reference_metrics.videos().values()
    scores = frame_scores(*videos, {"psnr": PSNR(), "ssim": SSIM()}, batch=batch)
    for name, tolerance in (("psnr", 1e-4), ("ssim", 2e-5)):
        want = reference_metrics.expected(name)
        np.testing.assert_allclose(scores[name], want["per_video_frame"], rtol=0, atol=tolerance)
        assert scores[name].mean(dtype=float) == pytest.approx(want["final_mean"], abs=tolerance)
        assert scores[name].std(dtype=float) == pytest.approx(want["final_std"], abs=tolerance)


@pytest.mark.parametrize("batch", [1, 2, 4, 5, 100])
def test_scores_do_not_depend_on_the_batch(batch):
    real, fake = noise(0), noise(1)
    assert psnr(real, fake, batch=batch) == pytest.approx(psnr(real, fake), rel=1e-7)
    assert ssim(real, fake, batch=batch) == pytest.approx(ssim(real, fake), abs=1e-7)


def test_videos_may_come_clip_by_clip():
    real, fake = noise(0), noise(1)
    measures = {"a": PSNR(), "b": SSIM()}
    expected = frame_scores(real, fake, measures, batch=2)
    clips = (NamedClip(f"{i}.mp4", clip) for i, clip in enumerate(fake))
    actual = frame_scores(iter(real), clips, measures, batch=2)
    for name in measures:
        assert actual[name].shape == (2, 3)
        np.testing.assert_array_equal(actual[name], expected[name])
    np.testing.assert_allclose(psnr_per_frame(real, fake), expected["a"], rtol=1e-6)
    np.testing.assert_allclose(per_frame(SSIM(), real, fake), expected["b"], rtol=1e-6)


def test_pixels_in_0_to_1_score_like_their_levels():
    real, fake = noise(0), noise(1)
    for metric in (psnr, ssim):
        assert metric(real / 255, fake) == pytest.approx(metric(real, fake), rel=1e-6)
    with pytest.raises(ValueError, match=r"in \[0, 1\], got -1 to 1 in fake\[0\]"):
        psnr(real, fake / 127.5 - 1)


def test_no_measure_is_refused():
    with pytest.raises(ValueError, match="at least one measure"):
        frame_scores(noise(), noise(), {})


def test_the_structures_of_two_measures_differ():
    """`jit` finds a program by them; see `Measure`."""
    assert jax.tree.structure(PSNR()) != jax.tree.structure(SSIM())
