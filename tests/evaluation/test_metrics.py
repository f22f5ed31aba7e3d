"""Metrics by name: what there is, and what is missing and why."""

import numpy as np
import pytest
import videos

from fv_jax.evaluation.metrics import METRICS, make_metrics, of_pairs
from fv_jax.evaluation.protocols import Protocol
from fv_jax.metrics import I3D, LPIPS, frechet_distance, psnr, ssim
from fv_jax.metrics.interface import Missing, Weights
from fv_jax.shapes import scenes

REAL = np.stack([videos.noise(4, (32, 32), seed) for seed in range(2)])
FAKE = np.roll(REAL, 1, axis=2)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in ("FV_I3D_WEIGHTS", "FV_LPIPS_TRUNK", "FV_LPIPS_HEADS"):
        monkeypatch.delenv(name, raising=False)


def made(name, weights=Weights(), **settings):
    return METRICS[name].made(Protocol(**settings), weights)


def test_a_metric_says_what_it_is_called():
    headings = {name: metric.heading() for name, metric in METRICS.items()}
    assert headings == {
        "psnr": "PSNR, dB ↑", "ssim": "SSIM ↑", "lpips": "LPIPS ↓", "fvd": "FVD ↓",
        "shapes_fvd": "shapes-FVD ↓",
    }  # fmt: skip
    assert [f"{17.25:{metric.digits}}" for metric in METRICS.values()] == [
        "17.25", "17.250", "17.250", "17.25", "17.25"
    ]  # fmt: skip
    assert list(filter(of_pairs, METRICS)) == ["psnr", "ssim", "lpips"]


@pytest.mark.parametrize(("name", "whole"), [("psnr", psnr), ("ssim", ssim)])
def test_each_pairs_score_is_the_metric_of_that_pair(name, whole):
    found = made(name)(REAL, FAKE)
    alone = [whole(a[None], b[None]) for a, b in zip(REAL, FAKE)]
    np.testing.assert_allclose(found, alone, rtol=1e-6)
    assert found.dtype == np.float64


def test_luma_is_the_ssim_of_grays_and_another_number():
    gray = np.repeat(REAL[..., :1], 3, axis=-1)
    luma, channels = (made("ssim", ssim_colour=c) for c in ("luma", "channels"))
    other = np.roll(gray, 1, axis=2)
    np.testing.assert_allclose(luma(gray, other), channels(gray, other), atol=2e-3)
    assert abs(luma(REAL, FAKE) - channels(REAL, FAKE)).max() > 0.01
    assert luma.fingerprint != channels.fingerprint


def test_without_weights_there_are_reasons_that_name_flags_and_variables():
    lpips, fvd = made("lpips"), made("fvd")
    assert isinstance(lpips, Missing)
    assert "--lpips-trunk (or FV_LPIPS_TRUNK) and --lpips-heads" in lpips.reason
    assert isinstance(fvd, Missing)
    assert "--i3d-weights (or FV_I3D_WEIGHTS)" in fvd.reason


def test_weights_that_were_named_must_be_there(tmp_path):
    nowhere = tmp_path / "none.npz"
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        made("fvd", Weights({"i3d_weights": nowhere}))
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        made("lpips", Weights({"lpips_trunk": nowhere, "lpips_heads": nowhere}))


class FakeI3D:
    """What the network of FVD offers here: means of eight parts as features."""

    def features(self, clips):
        return clips.reshape(len(clips), 8, -1).mean(-1).astype(np.float32)


@pytest.fixture
def asked(monkeypatch):
    """What the network of FVD is asked for; it is a `FakeI3D` then."""
    asked = []

    def published(path, **settings):
        asked.append({"path": str(path), **settings})
        return FakeI3D(), {"sha256": "00", "verified": False}

    monkeypatch.setattr(I3D, "published", published)
    return asked


def test_flags_come_before_the_environment(monkeypatch, tmp_path, asked):
    monkeypatch.setenv("FV_I3D_WEIGHTS", "told")
    made("fvd")
    made("fvd", Weights({"i3d_weights": tmp_path}))
    assert [each["path"] for each in asked] == ["told", str(tmp_path)]


def test_the_network_of_fvd_gets_the_protocols_settings(asked, tmp_path):
    weights = Weights({"i3d_weights": tmp_path}, allow_unverified=True)
    metric = made("fvd", weights)
    found = metric.features(REAL)
    assert found.dtype == np.float64
    assert metric.distance(found, found) == pytest.approx(0, abs=1e-9)
    assert (metric.least_frames, metric.width, metric.record["verified"]) == (9, 400, False)
    other = made("fvd", weights, i3d_epsilon=1e-5, i3d_resize="legacy_bilinear")
    # Numbers of earlier releases are found again under these.
    assert metric.fingerprint == "i3d 1 epsilon=0.001 resize=half_pixel sha256:00"
    assert other.fingerprint == "i3d 1 epsilon=1e-05 resize=legacy_bilinear sha256:00"
    for each, epsilon, resize in zip(asked, (1e-3, 1e-5), ("half_pixel", "legacy_bilinear")):
        assert each == {
            "path": str(tmp_path), "bn_epsilon": epsilon, "resize": resize,
            "allow_unverified": True,
        }  # fmt: skip


def test_the_weights_of_lpips_must_be_of_the_protocols_network(monkeypatch, tmp_path):
    network = type("Network", (), {"net": "alexnet", "name": "LPIPS", "least_size": 31})()
    record = {part: {"sha256": part} for part in ("trunk", "heads")}
    monkeypatch.setattr(LPIPS, "published", lambda *files, **settings: (network, record))
    weights = Weights({"lpips_trunk": tmp_path, "lpips_heads": tmp_path})
    with pytest.raises(ValueError, match=r"got weights of alexnet, want vgg16 .*--lpips-net"):
        made("lpips", weights, lpips_net="vgg16")
    metric = made("lpips", weights)
    assert metric.fingerprint == "lpips 1 alexnet upsample=True sha256:trunk sha256:heads"
    assert metric.least_size == 31


def test_shapes_fvd_is_the_distance_of_the_shipped_features():
    metric = made("shapes_fvd")
    clips = [np.stack([scenes.render(scenes.clip("test", 8 * k + i)) for i in range(8)])
             for k in range(2)]  # fmt: skip
    one, other = map(metric.features, clips)
    assert one.shape == (8, metric.width)
    assert metric.distance(one, other) == pytest.approx(frechet_distance(one, other))
    assert metric.distance(one, one) == pytest.approx(0, abs=1e-6)
    assert metric.distance(one, other) > 1


def test_clips_too_short_are_an_error_where_the_metric_is_wanted(asked, tmp_path):
    rules = Protocol(metrics=("fvd", "psnr"), given_frames=4, given_in_fvd=False)
    found = make_metrics(rules, Weights(), 12, "x.npz")
    assert list(found) == ["psnr", "fvd"]  # pairs first
    assert found["fvd"] == Missing("8 frames, FVD needs 9")
    wanted = "x.npz: got 8 frames, FVD needs 9; leave it out with --metrics psnr ssim lpips"
    with pytest.raises(ValueError, match=wanted):
        make_metrics(rules, Weights(), 12, "x.npz", asked=("fvd",))
    with pytest.raises(ValueError, match=wanted):
        make_metrics(rules, Weights({"i3d_weights": tmp_path}), 12, "x.npz")
