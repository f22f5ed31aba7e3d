"""I3D: the reference tool's logits and preprocessing, and its parts against XLA's own operations.

The tool's numbers are those of JunyaoHu/common_metrics_on_video_quality (5f75173) with random
weights, which a recipe makes anew (`random_i3d.py`); videos and numbers are in `fixtures/metrics`.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import random_i3d
import reference_metrics

from fv_jax.metrics import I3D
from fv_jax.metrics.i3d import preprocessed
from fv_jax.metrics.i3d_network import _conv, _max_pool, kernel_shapes
from fv_jax.metrics.weights.files import content_hash
from fv_jax.metrics.weights.i3d import shapes


def clips(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_the_random_weights_are_those_of_the_vectors():
    about = json.loads((reference_metrics.VECTORS / "i3d_params.json").read_text())
    assert {name: tuple(shape) for name, shape, *_ in about["params"]} == shapes()
    digest = content_hash(random_i3d.weights())
    assert digest == about["sha256_sorted_name_plus_float32_le_bytes"]


def test_logits_are_the_reference_tools():
    videos, logits = reference_metrics.videos(), reference_metrics.logits()
    actual = random_i3d.network().features(videos["real"][1:2])
    assert (actual.shape, actual.dtype) == ((1, 400), np.float32)
    for name in ("float64_styleganv_pre_eps0.001_real", "videogpt_pre_eps0.001_real"):
        # Allowed: 1e-4; another epsilon moves them by 0.09.
        np.testing.assert_allclose(actual, logits[name][1:2], rtol=0, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["real", "fake"])
@pytest.mark.parametrize("epsilon", ["1e-05", "0.001"])
def test_logits_of_all_clips_are_the_reference_tools(epsilon, name):
    videos, logits = reference_metrics.videos(), reference_metrics.logits()
    actual = random_i3d.network(float(epsilon)).features(videos[name], batch=3)
    for way in ("float64_styleganv_pre", "videogpt_pre"):
        expected = logits[f"{way}_eps{epsilon}_{name}"]
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "number", "part"),
    [
        ("wide_48x64", 0, lambda x: x[:, 8:56]),
        ("tall_64x40", 1, lambda x: x[:, :, 12:52]),
        ("tiled_256x320_downscale", 2, lambda x: np.tile(x, (1, 4, 5, 1))),
        ("odd_45x61", 3, lambda x: x[:, :45, :61]),
    ],
)
def test_what_the_network_sees_is_what_the_reference_tool_shows_it(name, number, part):
    videos = reference_metrics.videos()
    seen = jax.jit(preprocessed)(part(videos["real"][number, :10])[None])
    flat = np.asarray(seen)[0].transpose(3, 0, 1, 2).reshape(-1)
    probed = np.random.RandomState(5).randint(0, 2**31, 64) % flat.size
    probe = reference_metrics.expected("fvd")["preprocess"][name]
    np.testing.assert_allclose(flat[probed], probe["samples"], rtol=0, atol=2e-6)
    assert flat.mean() == pytest.approx(probe["mean"], abs=1e-6)
    assert flat.std() == pytest.approx(probe["std"], abs=1e-6)


def test_the_old_bilinear_resize_is_tensorflows():
    """By hand: 4 px become 224, whose places are 0, 1/56, .. without half pixels."""
    row = np.array([0, 100, 40, 220], np.uint8)
    video = np.broadcast_to(row[None, None, None, :, None], (1, 1, 3, 4, 3))
    seen = np.asarray(preprocessed(jnp.asarray(video), "legacy_bilinear"))[0, 0, 5, :, 0]
    at = np.arange(224) / 56
    expected = np.interp(at, np.arange(4), row)  # the last 56 columns stay at the last pixel
    np.testing.assert_allclose(seen, expected / 127.5 - 1, atol=1e-6)


def test_floats_are_taken_as_they_are():
    levels = clips(0, 1, 2, 224, 224)
    exact = preprocessed(jnp.asarray(levels))
    for pixels in (levels / np.float32(255), (levels / 255).astype(np.float32)):
        np.testing.assert_allclose(preprocessed(jnp.asarray(pixels)), exact, atol=1e-6)
    # Less than a level more.
    between = jnp.asarray(np.minimum(levels / np.float32(255) + np.float32(0.003), 1))
    assert np.abs(preprocessed(between) - exact).max() > 0.005


@pytest.mark.parametrize("frames", [9, 10, 16])
@pytest.mark.parametrize(("size", "stride"), [(7, 2), (3, 1)])
def test_convolutions_are_xlas_own(frames, size, stride):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, frames, 13, 14, 3)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((size, size, size, 3, 5)), jnp.float32)
    bias = jnp.asarray(rng.standard_normal(5), jnp.float32)
    expected = jax.lax.conv_general_dilated(
        x, kernel, (stride,) * 3, "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    actual = _conv(kernel, bias, x, stride)
    np.testing.assert_allclose(actual, expected + bias, rtol=0, atol=2e-4)


@pytest.mark.parametrize("shape", [(9, 13, 14), (4, 7, 7), (3, 28, 28)])
@pytest.mark.parametrize(
    ("window", "strides"),
    [
        ((1, 3, 3), (1, 2, 2)),
        ((3, 3, 3), (2, 2, 2)),
        ((2, 2, 2), (2, 2, 2)),
        ((3, 3, 3), (1, 1, 1)),
    ],
)
def test_max_pools_are_xlas_own(shape, window, strides):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, *shape, 3)), jnp.float32)
    expected = jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, *window, 1), (1, *strides, 1), "SAME"
    )
    np.testing.assert_array_equal(_max_pool(x, window, strides), expected)


@pytest.mark.parametrize(("frames", "pairs"), [(9, 1), (16, 1), (17, 2)])
def test_nine_frames_are_the_fewest_that_give_logits(frames, pairs):
    i3d = random_i3d.network()
    shape = jax.eval_shape(i3d.logits, jnp.zeros((2, frames, 224, 224, 3)))
    assert shape.shape == (2, 400)
    assert -(-frames // 8) - 1 == pairs


def test_kernels_are_those_of_inception():
    kernels = kernel_shapes()
    assert len(kernels) == 58
    assert sum(int(np.prod(shape)) for shape in shapes().values()) == 12_711_824


@pytest.mark.parametrize("batch", [1, 3, 4, 7, 100])
def test_features_do_not_depend_on_the_batch(batch):
    i3d, videos = random_i3d.quick(), clips(1, 7, 9, 20, 24)
    expected = i3d.features(videos, batch=7)
    np.testing.assert_allclose(i3d.features(videos, batch=batch), expected, rtol=0, atol=1e-5)


def test_clips_may_come_one_by_one():
    i3d, videos = random_i3d.quick(), clips(1, 5, 9, 20, 24)
    asked = []

    def one_by_one():
        for number, clip in enumerate(videos):
            asked.append(number)
            yield clip

    expected = i3d.features(list(videos), batch=2)
    np.testing.assert_array_equal(i3d.features(one_by_one(), batch=2), expected)
    assert asked == [0, 1, 2, 3, 4]


def test_a_clip_has_the_logits_that_it_has_alone():
    i3d, videos = random_i3d.quick(), clips(1, 4, 9, 20, 24)
    together = i3d.features(videos, batch=4)
    alone = np.concatenate([i3d.features(clip[None]) for clip in videos])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


def test_the_resize_reaches_the_network():
    levels = clips(0, 2, 9, 20, 30)
    half, legacy = (random_i3d.quick(resize=r) for r in ("half_pixel", "legacy_bilinear"))
    assert np.abs(half.features(levels) - legacy.features(levels)).max() > 0.01


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        ([], "no clips in videos"),
        (clips(0, 2, 8, 20, 20), r"at least 9 frames, videos\[0\] has 8"),
        ([clips(0, 9, 20, 20), clips(0, 10, 20, 20)], r"\[1\]: got 10 .*, want 9 .*\[0\] has"),
        ([clips(0, 9, 20, 20), clips(0, 9, 20, 24)], r"videos\[1\]: got 9 frames of 24x20 px"),
        (clips(0, 1, 9, 20, 20)[..., 0], r"must be \[F, Y, X, 3\].*got \[9, 20, 20\]"),
        (clips(0, 1, 9, 20, 20) / 127.5 - 1, r"in \[0, 1\], got -1 to 1 in videos\[0\]"),
        (clips(0, 1, 9, 20, 20).astype(np.int32), "got int32"),
        ([clips(0, 9, 20, 20), clips(0, 9, 20, 20) / 255], "all uint8 or all floats.*float32"),
    ],
)
def test_unfit_videos_are_refused(videos, message):
    with pytest.raises(ValueError, match=message):
        random_i3d.quick().features(videos)


def test_unknown_choices_are_refused_and_the_known_ones_named():
    with pytest.raises(ValueError, match="no 'bicubic'; there are: half_pixel, legacy_bilinear"):
        I3D.load({}, resize="bicubic")
    with pytest.raises(ValueError, match="bn_epsilon must be in"):
        I3D.load({}, bn_epsilon=-1e-3)
    with pytest.raises(ValueError, match="batch must be >= 1, got 0"):
        random_i3d.quick().features(clips(0, 1, 9, 20, 20), batch=0)


def test_the_smoke_value_is_the_squared_distance_of_black_from_white():
    i3d = random_i3d.quick()
    black, white = (np.full((1, 10, 64, 64, 3), level, np.uint8) for level in (0, 255))
    expected = np.sum((i3d.features(black) - i3d.features(white)).astype(float) ** 2)
    assert i3d.smoke_value() == pytest.approx(expected, rel=1e-5)
    assert not i3d.smoke_agrees(expected)
    assert i3d.smoke_agrees(569.3)
