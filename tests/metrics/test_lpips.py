"""LPIPS: the numbers of the tool that the papers used, and a float64 NumPy oracle for both nets.

The tool's numbers are those of JunyaoHu/common_metrics_on_video_quality (5f75173) with random
AlexNet weights and LPIPS's own heads (`fixtures/metrics`).
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_metrics
import torch_file
from safetensors.numpy import save_file

from fv_jax.metrics import LPIPS

# (index in torch's `features`, channels, kernel, stride, padding, pool before, tap)
LAYERS = {
    "alexnet": [
        (0, 64, 11, 4, 2, 0, True),
        (3, 192, 5, 1, 2, 3, True),
        (6, 384, 3, 1, 1, 3, True),
        (8, 256, 3, 1, 1, 0, True),
        (10, 256, 3, 1, 1, 0, True),
    ],
    "vgg16": [
        (0, 64, 3, 1, 1, 0, False),
        (2, 64, 3, 1, 1, 0, True),
        (5, 128, 3, 1, 1, 2, False),
        (7, 128, 3, 1, 1, 0, True),
        (10, 256, 3, 1, 1, 2, False),
        (12, 256, 3, 1, 1, 0, False),
        (14, 256, 3, 1, 1, 0, True),
        (17, 512, 3, 1, 1, 2, False),
        (19, 512, 3, 1, 1, 0, False),
        (21, 512, 3, 1, 1, 0, True),
        (24, 512, 3, 1, 1, 2, False),
        (26, 512, 3, 1, 1, 0, False),
        (28, 512, 3, 1, 1, 0, True),
    ],
}
LEAST = {"alexnet": 31, "vgg16": 16}
SIZE = (31, 46)  # and two frames: most tests share what one compiled


@functools.cache
def trunk(net):
    rng, tensors, before = np.random.default_rng(1), {}, 3
    for index, channels, kernel, *_ in LAYERS[net]:
        shape = (channels, before, kernel, kernel)
        weight = rng.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[1:]))
        tensors[f"features.{index}.weight"] = weight.astype(np.float32)
        tensors[f"features.{index}.bias"] = rng.normal(0, 0.05, channels).astype(np.float32)
        before = channels
    return tensors


@functools.cache
def heads(net):
    rng = np.random.default_rng(2)
    taps = [layer[1] for layer in LAYERS[net] if layer[-1]]
    return {
        f"lin{i}.model.1.weight": rng.uniform(0, 0.1, (1, c, 1, 1)).astype(np.float32)
        for i, c in enumerate(taps)
    }


@functools.cache
def random_lpips(net="alexnet"):
    return LPIPS.load(trunk(net), heads(net))


def frames(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def pixels(seed, *shape):
    return jnp.asarray(frames(seed, *shape), jnp.float32) / 127.5 - 1


@jax.jit
def loss_and_gradient(lpips, a, b):
    return jax.value_and_grad(lambda a: lpips.distance(a, b).sum())(a)


def windows(x, size, stride):
    views = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return views[:, ::stride, ::stride]  # [C, h, w, size, size]


def enlarged(image, shape):
    """Bilinear, pixel centers at halves, edges repeated."""
    for axis, large in enumerate(shape):
        small = image.shape[axis]
        at = (np.arange(large) + 0.5) * small / large - 0.5
        image = np.apply_along_axis(
            lambda x, at=at: np.interp(at, np.arange(len(x)), x), axis, image
        )
    return image


def oracle(net, a, b):
    """One pair of uint8 frames, in float64."""
    maps = []
    for image in (a, b):
        x = image.transpose(2, 0, 1) / 127.5 - 1
        shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
        x, taps = (x - shift[:, None, None]) / scale[:, None, None], []
        for index, _, kernel, stride, padding, pool, tap in LAYERS[net]:
            x = windows(x, pool, 2).max((-1, -2)) if pool else x
            x = windows(np.pad(x, ((0, 0), (padding, padding), (padding, padding))), kernel, stride)
            weight = trunk(net)[f"features.{index}.weight"].astype(float)
            x = np.tensordot(weight, x, ((1, 2, 3), (0, 3, 4)))
            x = np.maximum(x + trunk(net)[f"features.{index}.bias"][:, None, None], 0)
            if tap:
                taps.append(x / (np.sqrt((x**2).sum(0)) + 1e-10))
        maps.append(taps)
    score = 0.0
    for tap_a, tap_b, head in zip(*maps, heads(net).values()):
        seen = np.tensordot(head.reshape(-1).astype(float), (tap_a - tap_b) ** 2, 1)
        score += enlarged(seen, a.shape[:2]).mean()
    return score


def reference_lpips():
    return LPIPS.load(reference_metrics.alexnet(), reference_metrics.LPIPS_HEADS)


def test_every_frame_scores_as_with_the_reference_tool():
    videos, expected = reference_metrics.videos(), reference_metrics.expected("lpips")
    actual = reference_lpips().per_frame(videos["real"], videos["fake"])
    # The mean of the small maps (its convention "scalar") differs by up to 7e-6 here.
    want = expected["spatial"]["per_video_frame"]
    np.testing.assert_allclose(actual, want, rtol=0, atol=1e-6)


def test_means_are_the_reference_tools():
    videos, expected = reference_metrics.videos(), reference_metrics.expected("lpips")
    lpips = reference_lpips()
    score = lpips(videos["real"], videos["fake"])
    assert isinstance(score, float)
    assert score == pytest.approx(expected["repo_final_mean"], abs=1e-6)
    # Sixteen of them, since that is what has been compiled.
    black, white = (np.full((1, 16, 64, 64, 3), level, np.uint8) for level in (0, 255))
    assert lpips(black, white) == pytest.approx(expected["zeros_vs_ones_spatial"], abs=1e-6)


@pytest.mark.parametrize(("net", "size"), [("alexnet", SIZE), ("vgg16", (17, 35))])
def test_scores_are_the_oracles(net, size):
    a, b = frames(3, 2, *size), frames(4, 2, *size)
    expected = [oracle(net, *pair) for pair in zip(a, b)]
    actual = random_lpips(net).per_frame(a, b)
    np.testing.assert_allclose(actual, expected, rtol=2e-5)


def test_equal_frames_are_at_distance_0_and_order_does_not_matter():
    lpips, a, b = random_lpips(), frames(5, 2, *SIZE), frames(6, 2, *SIZE)
    np.testing.assert_allclose(lpips.per_frame(a, a), 0, atol=1e-12)
    np.testing.assert_allclose(lpips.per_frame(a, b), lpips.per_frame(b, a), rtol=1e-6)
    assert (lpips.per_frame(a, b) > 0.01).all()


def test_a_score_does_not_depend_on_the_frames_beside_it():
    lpips, a, b = random_lpips(), frames(7, 5, *SIZE), frames(8, 5, *SIZE)
    in_twos = lpips.per_frame(a, b, batch=2)  # and one left over
    last = lpips.per_frame(a[3:], b[3:], batch=2)
    np.testing.assert_array_equal(in_twos[3:], [lpips.per_frame(a[2:4], b[2:4])[1], last[1]])
    np.testing.assert_allclose(lpips.per_frame(a, b, batch=9), in_twos, rtol=1e-5)
    assert lpips(a, b, batch=2) == pytest.approx(in_twos.mean(), rel=1e-6)


def test_videos_are_scored_as_their_frames():
    lpips, a, b = random_lpips(), frames(7, 2, 3, *SIZE), frames(8, 2, 3, *SIZE)
    scores = lpips.per_frame(a, b, batch=2)
    assert scores.shape == (2, 3)
    flat = lpips.per_frame(a.reshape(6, *SIZE, 3), b.reshape(6, *SIZE, 3), batch=2)
    np.testing.assert_array_equal(scores.reshape(-1), flat)


def test_the_loss_is_the_metric():
    lpips, a, b = random_lpips(), frames(5, 2, *SIZE), frames(6, 2, *SIZE)
    loss, _ = loss_and_gradient(lpips, pixels(5, 2, *SIZE), pixels(6, 2, *SIZE))
    assert float(loss) == pytest.approx(lpips.per_frame(a, b).sum(), rel=1e-5)


def test_the_gradient_is_the_slope(x64):
    lpips, rng = random_lpips(), np.random.default_rng(9)
    a, b, way = (jnp.asarray(rng.uniform(-1, 1, (2, *SIZE, 3))) for _ in range(3))
    step = 1e-6
    (above, _), (below, _), (_, gradient) = (
        loss_and_gradient(lpips, a + i * step * way, b) for i in (1, -1, 0)
    )
    slope = float(above - below) / (2 * step)
    assert float(jnp.vdot(gradient, way)) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("scale", [0.1, 1e-25])  # of the smaller, squares are 0 in float32
def test_gradients_are_finite_where_features_are_all_0(scale):
    # Nothing but positive kernels and no bias: a black frame leaves every feature at exactly 0.
    tensors = {
        name: abs(value) * (value.ndim == 4) * scale for name, value in trunk("alexnet").items()
    }
    lpips = LPIPS.load(tensors, heads("alexnet"))
    black = jnp.full((2, *SIZE, 3), -1, jnp.float32)
    bright = 1 + pixels(10, 2, *SIZE) / 10
    for a, b in [(black, bright), (bright, black), (black, black), (bright, bright)]:
        loss, gradient = loss_and_gradient(lpips, a, b)
        assert np.isfinite(loss)
        assert np.isfinite(gradient).all()
        if a is black:
            np.testing.assert_array_equal(gradient, 0)


def test_files_of_either_kind_and_float16_hold_the_same_network(tmp_path):
    half = {name: value.astype(np.float16) for name, value in trunk("alexnet").items()}
    half["classifier.6.bias"] = np.zeros(1000, np.float16)  # a whole AlexNet may be given
    save_file(half, tmp_path / "trunk.safetensors")
    np.savez(tmp_path / "trunk.npz", **half)
    np.savez(tmp_path / "heads.npz", **heads("alexnet"))
    a, b = frames(5, 2, *SIZE), frames(6, 2, *SIZE)
    scores = [
        LPIPS.load(trunk_file, tmp_path / "heads.npz").per_frame(a, b)
        for trunk_file in (half, str(tmp_path / "trunk.npz"), tmp_path / "trunk.safetensors")
    ]
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])


def test_files_of_torch_are_read_as_they_are(tmp_path):
    torch_file.save(tmp_path / "trunk.pth", trunk("alexnet"))
    torch_file.save_old(tmp_path / "heads.pth", heads("alexnet"))
    a, b = frames(5, 2, *SIZE), frames(6, 2, *SIZE)
    scores = LPIPS.load(tmp_path / "trunk.pth", tmp_path / "heads.pth").per_frame(a, b)
    np.testing.assert_array_equal(scores, random_lpips().per_frame(a, b))


def test_pixels_in_0_to_1_score_like_their_levels():
    lpips, a, b = random_lpips(), frames(5, 2, *SIZE), frames(6, 2, *SIZE)
    scores = lpips.per_frame(a / 255, (b / 255).astype(np.float32))
    np.testing.assert_allclose(scores, lpips.per_frame(a, b), rtol=1e-5)


def test_videos_may_come_clip_by_clip():
    lpips, a, b = random_lpips(), frames(7, 2, 3, *SIZE), frames(8, 2, 3, *SIZE)
    assert lpips((clip for clip in a), iter(b), batch=2) == lpips(a, b, batch=2)
    assert lpips(a[0], b[0], batch=2) == pytest.approx(lpips(a[:1], b[:1], batch=2), rel=1e-6)


def test_the_smoke_value_is_black_against_white():
    expected = reference_metrics.expected("lpips")
    value = reference_lpips().smoke_value()
    assert value == pytest.approx(expected["zeros_vs_ones_spatial"], abs=1e-6)
    assert reference_lpips().smoke_agrees(value) is False  # random weights
    assert reference_lpips().smoke_agrees(0.81400904) is True
    assert random_lpips("vgg16").smoke_agrees(value) is None


def test_the_network_is_told_by_its_shapes():
    assert [random_lpips(net).net for net in LAYERS] == list(LAYERS)


@pytest.mark.parametrize("which", [0, 1])
def test_a_missing_file_says_in_one_line_what_belongs_there(which, tmp_path):
    given: list = [trunk("alexnet"), heads("alexnet")]
    given[which] = tmp_path / "none.safetensors"
    with pytest.raises(FileNotFoundError) as error:
        LPIPS.load(*given)
    message = str(error.value)
    source = ("alexnet-owt-7be5be79.pth", "richzhang/PerceptualSimilarity")[which]
    assert str(given[which]) in message
    assert source in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["a.safetensors", "a.npz", "a.pth"])
def test_files_of_something_else_are_refused(name, tmp_path):
    (tmp_path / name).write_text("<html>404</html>")
    with pytest.raises(ValueError, match=r"is a web page.*alexnet-owt-7be5be79"):
        LPIPS.load(tmp_path / name, heads("alexnet"))
    with pytest.raises(ValueError, match=r"is a web page.*richzhang"):
        LPIPS.load(trunk("alexnet"), tmp_path / name)


def test_unfit_tensors_are_named():
    tensors = trunk("alexnet")
    with pytest.raises(ValueError, match=r"neither AlexNet nor VGG16.*got none"):
        LPIPS.load({}, heads("alexnet"))
    odd = tensors | {"features.0.weight": np.zeros((64, 3, 7, 7), np.float32)}
    with pytest.raises(ValueError, match=r"neither AlexNet nor VGG16.*got \(64, 3, 7, 7\)"):
        LPIPS.load(odd, heads("alexnet"))
    less = {name: value for name, value in tensors.items() if name != "features.8.bias"}
    with pytest.raises(ValueError, match=r"fit alexnet: 1 .*8\.bias \(want \(256,\), got None\)"):
        LPIPS.load(less, heads("alexnet"))
    more = tensors | {"features.12.weight": np.zeros(3, np.float32)}
    with pytest.raises(ValueError, match=r"features\.12\.weight \(want None, got \(3,\)\)"):
        LPIPS.load(more, heads("alexnet"))


def test_heads_of_the_other_network_are_refused():
    with pytest.raises(ValueError, match=r"heads of alexnet: 4 .*lin1.*\(1, 192, 1, 1\), got"):
        LPIPS.load(trunk("alexnet"), heads("vgg16"))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (frames(0, 2, 31, 31), frames(0, 1, 31, 31), "same shape"),
        (frames(0, 1, 31, 30), frames(0, 1, 31, 30), "at least 31x31 px, got 31x30"),
        (frames(0, 0, 31, 31), frames(0, 0, 31, 31), "with a frame"),
        (frames(0, 1, 31, 31)[..., :1], frames(0, 1, 31, 31)[..., :1], r"\[..., Y, X, 3\]"),
        (frames(0, 1, 31, 31) / 1.0, frames(0, 1, 31, 31), r"in \[0, 1\], got 0 to 255 in real"),
        (frames(0, 1, 31, 31), frames(0, 1, 31, 31).astype(int), "must be uint8, .* got int64"),
    ],
)
def test_unfit_videos_are_refused(a, b, message):
    unchecked = inspect.unwrap(LPIPS.per_frame)  # the annotations would be checked first
    with pytest.raises(ValueError, match=message):
        unchecked(random_lpips(), a, b)


def test_unfit_pixels_are_refused():
    unchecked = inspect.unwrap(LPIPS.distance)
    with pytest.raises(ValueError, match=r"floats in .*, got uint8"):
        unchecked(random_lpips(), frames(0, 1, 31, 31), pixels(0, 1, 31, 31))
    with pytest.raises(ValueError, match="at least 16x16 px, got 15x40"):
        unchecked(random_lpips("vgg16"), pixels(0, 1, 15, 40), pixels(0, 1, 15, 40))


@pytest.mark.parametrize("net", LAYERS)
def test_frames_of_the_least_size_are_taken(net):
    taps = jax.eval_shape(
        lambda a: random_lpips(net).distance(a, a), jnp.zeros((1, LEAST[net], LEAST[net], 3))
    )
    assert taps.shape == (1,)
