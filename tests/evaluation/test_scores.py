"""Metrics behind one interface: what there is, and what is missing and why."""

import numpy as np
import pytest
import videos

from fv_jax.evaluation.protocols import Protocol
from fv_jax.evaluation.scores import Missing, Weights, frame_score, video_network
from fv_jax.metrics import frechet_distance, psnr, ssim
from fv_jax.metrics.weights import published
from fv_jax.shapes import scenes

REAL = np.stack([videos.noise(4, (32, 32), seed) for seed in range(2)])
FAKE = np.roll(REAL, 1, axis=2)


@pytest.mark.parametrize(("name", "whole"), [("psnr", psnr), ("ssim", ssim)])
def test_each_pairs_score_is_the_metric_of_that_pair(name, whole):
    score = frame_score(name, Protocol(), Weights())
    found = score(REAL, FAKE)
    np.testing.assert_allclose(found, [whole(a[None], b[None]) for a, b in zip(REAL, FAKE)])
    assert found.dtype == np.float64
    assert score.higher_is_better


def test_luma_is_the_ssim_of_greys_and_another_number():
    grey = np.repeat(REAL[..., :1], 3, axis=-1)
    luma, channels = (
        frame_score("ssim", Protocol(ssim_colour=c), Weights()) for c in ("luma", "channels")
    )
    other = np.roll(grey, 1, axis=2)
    np.testing.assert_allclose(luma(grey, other), channels(grey, other), atol=2e-3)
    assert abs(luma(REAL, FAKE) - channels(REAL, FAKE)).max() > 0.01
    assert luma.fingerprint != channels.fingerprint


def test_without_weights_there_are_reasons_that_name_flags_and_variables(monkeypatch):
    for name in ("FV_I3D_WEIGHTS", "FV_LPIPS_TRUNK", "FV_LPIPS_HEADS"):
        monkeypatch.delenv(name, raising=False)
    lpips = frame_score("lpips", Protocol(), Weights().found)
    fvd = video_network("fvd", Protocol(), Weights().found)
    assert isinstance(lpips, Missing)
    assert "--lpips-trunk (or FV_LPIPS_TRUNK) and --lpips-heads" in lpips.reason
    assert isinstance(fvd, Missing)
    assert "--i3d-weights (or FV_I3D_WEIGHTS)" in fvd.reason


def test_flags_come_before_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FV_I3D_WEIGHTS", "told")
    monkeypatch.delenv("FV_LPIPS_TRUNK", raising=False)
    assert str(Weights().found.i3d) == "told"
    assert Weights(i3d=tmp_path).found.i3d == tmp_path
    assert Weights().found.lpips_trunk is None


def test_weights_that_were_named_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        video_network("fvd", Protocol(), Weights(i3d=tmp_path / "none.npz"))
    nowhere = Weights(lpips_trunk=tmp_path / "none.npz", lpips_heads=tmp_path / "none.npz")
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        frame_score("lpips", Protocol(), nowhere)


class FakeI3D:
    """What the network of FVD offers here: means of eight parts as features."""

    def features(self, clips):
        return clips.reshape(len(clips), 8, -1).mean(-1).astype(np.float32)


@pytest.fixture
def i3d(monkeypatch, tmp_path):
    """A file of weights, of which a `FakeI3D` is made."""
    asked = []

    def published_i3d(path, **settings):
        asked.append(settings)
        return FakeI3D(), {"verified": False}

    monkeypatch.setattr(published, "published_i3d", published_i3d)
    (tmp_path / "i3d.npz").write_bytes(b"weights")
    return Weights(i3d=tmp_path / "i3d.npz", allow_unverified=True), asked


def test_the_network_of_fvd_gets_the_protocols_settings(i3d):
    weights, asked = i3d
    network = video_network("fvd", Protocol(), weights)
    found = network.features(REAL)
    assert found.dtype == np.float64
    assert network.distance(found, found) == pytest.approx(0, abs=1e-9)
    assert (network.least_frames, network.record) == (9, {"verified": False})
    other = video_network("fvd", Protocol(i3d_epsilon=1e-5, i3d_resize="legacy_bilinear"), weights)
    assert other.fingerprint != network.fingerprint
    assert asked[0] == {"bn_epsilon": 1e-3, "resize": "half_pixel", "allow_unverified": True}
    assert asked[1] == {"bn_epsilon": 1e-5, "resize": "legacy_bilinear", "allow_unverified": True}


def test_shapes_fvd_is_the_distance_of_the_shipped_features():
    network = video_network("shapes_fvd", Protocol(), Weights())
    videos = [np.stack([scenes.render(scenes.clip("test", 8 * k + i)) for i in range(8)])
              for k in range(2)]  # fmt: skip
    one, other = map(network.features, videos)
    assert one.shape == (8, network.width)
    assert network.distance(one, other) == pytest.approx(frechet_distance(one, other))
    assert network.distance(one, one) == pytest.approx(0, abs=1e-6)
    assert network.distance(one, other) > 1
