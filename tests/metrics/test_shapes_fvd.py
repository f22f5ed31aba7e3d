"""shapes-FVD: the shipped network reads clips, and damage costs more than chance."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fv_jax.data import shapes
from fv_jax.metrics.shapes_features import NUMBERS, WEIGHTS, WORDS, FeatureExtractor, graph, truth
from fv_jax.metrics.shapes_fvd import real_features, shapes_fvd
from fv_jax.shipped import shipped_models


@pytest.fixture(scope="module")
def extractor():
    return FeatureExtractor.load()


@pytest.fixture(scope="module")
def videos():
    return np.stack([shapes.render(shapes.clip("test", i)) for i in range(48)])


def test_the_weights_are_small_and_no_model():
    assert WEIGHTS.stat().st_size < 2e6
    assert "shapes_features" not in shipped_models()


def test_attributes_and_motion_are_read(extractor, videos):
    logits, numbers = nnx.merge(graph(), extractor.params).read(jnp.asarray(extractor(videos)))
    words, values = zip(*(truth(shapes.clip("test", i)) for i in range(len(videos))))
    for i, name in enumerate(WORDS):
        right = np.asarray(logits[name]).argmax(-1) == np.stack(words)[:, i]
        assert right.mean() >= 0.95, name
    pixels = np.abs(np.asarray(numbers) - np.stack(values)).mean(0) * list(NUMBERS.values())
    assert (pixels < [0.6, 1.0, 1.0, 0.12, 0.12]).all()


def test_damage_costs_more_than_other_clips(extractor, videos):
    with pytest.warns(UserWarning, match="mostly chance"):
        floor = shapes_fvd(videos[:24], videos[24:], extractor)
    order = np.random.default_rng(0).permutation(17)
    for damaged in (videos[:, order], videos[..., ::-1], videos // 2):
        with pytest.warns(UserWarning, match="mostly chance"):
            found = shapes_fvd(videos[:24], damaged[24:], extractor)
        assert found > floor


def test_real_clips_a_few_at_a_time(extractor, videos):
    np.testing.assert_allclose(
        real_features(20, extractor, first=3), extractor(videos[3:23]), atol=1e-5
    )


def test_what_cannot_be_compared(extractor, videos):
    with pytest.raises(ValueError, match="same length"):
        shapes_fvd(videos[:, :9], videos, extractor)
    with pytest.raises(ValueError, match="uint8"):
        extractor(videos.astype(np.float32))
    with pytest.raises(ValueError, match="M >= 3"):
        extractor(videos[:, :2])


def test_weights_survive_saving(extractor, videos, tmp_path):
    extractor.save(tmp_path / "w.safetensors")
    again = FeatureExtractor.load(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(again(videos[:2]), extractor(videos[:2]))
