"""shapes-FVD: the shipped network reads clips, and damage costs more than chance."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fv_jax.shapes import scenes
from fv_jax.shapes.distance import RealClips, real_features
from fv_jax.shapes.features import NUMBERS, WEIGHTS, WORDS, FeatureExtractor, graph, truth
from fv_jax.weights.shipped import shipped_models


@pytest.fixture(scope="module")
def extractor():
    return FeatureExtractor.load()


@pytest.fixture(scope="module")
def videos():
    return np.stack([scenes.render(scenes.clip("test", i)) for i in range(48)])


def test_the_weights_are_small_and_no_model():
    assert WEIGHTS.stat().st_size < 2e6
    assert "shapes_features" not in shipped_models()


def test_attributes_and_motion_are_read(extractor, videos):
    logits, numbers = nnx.merge(graph(), extractor.params).read(jnp.asarray(extractor(videos)))
    words, values = zip(*(truth(scenes.clip("test", i)) for i in range(len(videos))))
    for i, name in enumerate(WORDS):
        right = np.asarray(logits[name]).argmax(-1) == np.stack(words)[:, i]
        assert right.mean() >= 0.95, name
    pixels = np.abs(np.asarray(numbers) - np.stack(values)).mean(0) * list(NUMBERS.values())
    assert (pixels < [0.6, 1.0, 1.0, 0.12, 0.12]).all()


@pytest.fixture(scope="module")
def real(extractor):
    return RealClips(extractor, count=96)


def test_damage_costs_more_than_other_clips(real, videos):
    floor = real.floor(48, 2)
    order = np.random.default_rng(0).permutation(17)
    for damaged in (videos[:, order], 255 - videos, videos // 2):
        assert real.distance(damaged) > max(*floor, real.distance(videos))


def test_the_floor_is_the_distance_of_other_real_clips(real):
    clips = [scenes.clip("test", 1_000 + 96 + i) for i in range(32)]
    sets = np.split(np.stack([scenes.render(clip) for clip in clips]), 2)
    assert real.floor(16, 2) == pytest.approx([real.distance(part) for part in sets], rel=1e-5)


def test_real_clips_a_few_at_a_time(extractor, videos):
    np.testing.assert_allclose(real_features(3, 20, extractor), extractor(videos[3:23]), atol=1e-5)


def test_what_cannot_be_compared(real, extractor, videos):
    with pytest.raises(ValueError, match=r"got \(9, 64, 64, 3\)"):
        real.distance(videos[:, :9])
    with pytest.raises(ValueError, match="uint8"):
        extractor(videos.astype(np.float32))
    with pytest.raises(ValueError, match="F >= 3"):
        extractor(videos[:, :2])


def test_weights_survive_saving(extractor, videos, tmp_path):
    extractor.save(tmp_path / "w.safetensors")
    again = FeatureExtractor.load(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(again(videos[:2]), extractor(videos[:2]))
