"""FVD: the reference tool's numbers, and that it is the distance of the features, streamed."""

import numpy as np
import pytest
import random_i3d
import reference_metrics

from fv_jax.metrics import frechet_distance, fvd

SIZE = (9, 20, 24)


def clips(seed, count, size=SIZE):
    """Noise around a brightness of each clip's own, so that sets differ."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(60, 190, (count, 1, 1, 1, 3))
    noise = rng.normal(level, 20 + 5 * seed, (count, *size, 3))
    return noise.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("epsilon", ["1e-05", "0.001"])
def test_the_references_logits_have_the_references_distance(epsilon):
    logits, expected = reference_metrics.logits(), reference_metrics.expected("fvd")
    pair = [logits[f"float64_styleganv_pre_eps{epsilon}_{name}"] for name in ("real", "fake")]
    exact = expected[f"exact_float64_eps{epsilon}"]["value"]
    assert frechet_distance(*pair) == pytest.approx(exact, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", ["1e-05", "0.001"])
def test_fvd_is_the_reference_tools(epsilon):
    expected = reference_metrics.expected("fvd")
    value = fvd(*reference_metrics.videos().values(), random_i3d.network(float(epsilon)))
    assert isinstance(value, float)
    # Allowed: 1e-4.
    exact = expected[f"exact_float64_eps{epsilon}"]["value"]
    assert value == pytest.approx(exact, rel=1e-5)
    # The tool's own, whose square root of a matrix costs it digits.
    assert value == pytest.approx(expected["repo"][f"styleganv_final_eps{epsilon}"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("frames", [9, 11, 14])
def test_fvd_of_the_first_frames_is_the_reference_tools(frames):
    videos, expected = reference_metrics.videos().values(), reference_metrics.expected("fvd")
    name = "exact_float64_frechet_of_f32_logits_by_clip_len_9_to_16_eps1e-5"
    value = fvd(*(video[:, :frames] for video in videos), random_i3d.network(1e-5))
    assert value == pytest.approx(expected[name][str(frames)], rel=1e-5)


@pytest.mark.slow
def test_the_old_resize_reads_higher():
    i3d = random_i3d.network().replace(resize="legacy_bilinear")
    value = fvd(*reference_metrics.videos().values(), i3d)
    assert value == pytest.approx(17.388, abs=1e-3)  # half_pixel: 17.066


@pytest.mark.parametrize("batch", [1, 4, 50])
def test_fvd_is_the_distance_of_the_features(batch):
    i3d, real, fake = random_i3d.quick(), clips(0, 11), clips(1, 7)
    expected = frechet_distance(i3d.features(real), i3d.features(fake))
    assert expected > 1
    assert fvd(real, fake, i3d, batch=batch) == pytest.approx(expected, rel=1e-5)


def test_clips_may_come_one_by_one_from_anywhere():
    i3d, real, fake = random_i3d.quick(), clips(0, 5), clips(1, 4)
    value = fvd((clip for clip in real), iter(list(fake)), i3d)
    assert value == pytest.approx(fvd(real, fake, i3d), rel=1e-6)


def test_equal_sets_are_at_distance_0_and_order_does_not_matter():
    i3d, real = random_i3d.quick(), clips(0, 6)
    assert 0 <= fvd(real, real[::-1], i3d) < 1e-3
    assert fvd(real, clips(1, 6), i3d) > 1


def test_single_clips_are_compared_by_their_features():
    i3d, real, fake = random_i3d.quick(), clips(0, 1), clips(1, 1)
    expected = np.sum((i3d.features(real).astype(float) - i3d.features(fake)) ** 2)
    assert fvd(real, fake, i3d) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        ([], clips(0, 2), "no clips in real"),
        (clips(0, 2), [], "no clips in fake"),
        (clips(0, 2), clips(0, 2, (8, 20, 24)), r"least 9 frames, fake\[0\] has 8"),
        (clips(0, 2), clips(0, 2, (10, 20, 24)), r"fake\[0\]: got 10 frames .* real\[0\] has"),
        (
            clips(0, 2),
            clips(0, 2, (9, 24, 20)),
            r"got 9 frames of 20x24 px, want 9 frames of 24x20",
        ),
        (clips(0, 2), clips(0, 2) / 200, r"in \[0, 1\], got .* in fake\[0\]"),
    ],
)
def test_unfit_sets_are_refused(real, fake, message):
    with pytest.raises(ValueError, match=message):
        fvd(real, fake, random_i3d.quick())
