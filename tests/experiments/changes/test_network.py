"""Each network is a distribution over videos, and none begins with what the others lack."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from experiments.changes.network import WAYS, KeyFrameNetwork, around_place, nats, surroundings
from experiments.changes.rows import coded
from fv_jax.config.model import RetNetConfig, SequenceConfig

TWO = SequenceConfig(text_tokens=2, frame_grid=(1, 2), text_vocabulary=3, frame_codes=3)
CONFIG = RetNetConfig(
    width=12, layers=1, heads=2, value_width=16, hidden=16, angles="even", slots=TWO.stride
)


def costs(model, text, frames):
    batch = {"text": text, "frames": frames}
    if model.way == "changes":
        row = coded(text, frames, TWO)
        batch |= {"tokens": row.tokens, "positions": row.positions, "length": row.length}
    return nats(model, batch)


@pytest.mark.parametrize("way", WAYS)
def test_probabilities_of_all_videos_add_up_to_one(way, x64):
    model = tiny.randomised(lambda: KeyFrameNetwork(CONFIG, TWO, way, rngs=nnx.Rngs(0)))
    every = np.asarray(list(itertools.product(range(3), repeat=6)), np.int32).reshape(-1, 3, 2)
    text = np.full((len(every), 2), 2, np.int32)
    ids, places = costs(model, text, every)
    assert jnp.exp(-(ids + places).sum(1)).sum() == pytest.approx(1, abs=1e-12)
    first = jnp.exp(-ids[:, 0]).reshape(9, -1)[:, 0]  # by the first frame, whatever follows
    assert first.sum() == pytest.approx(1, abs=1e-12)


def test_features_begin_with_nothing():
    text = np.full((2, 2), 2, np.int32)
    frames = np.asarray([[[0, 1], [2, 1]], [[1, 1], [1, 0]]], np.int32)
    models = {way: KeyFrameNetwork(CONFIG, TWO, way, rngs=nnx.Rngs(0)) for way in WAYS}
    dense, _ = costs(models["dense"], text, frames)
    features, _ = costs(models["features"], text, frames)
    np.testing.assert_allclose(features, dense, atol=1e-5)
    changes, _ = costs(models["changes"], text, frames)
    np.testing.assert_allclose(changes[:, 0], dense[:, 0], atol=1e-5)


def test_around_a_place_are_new_ids_before_it_and_old_ones_from_it_on():
    s = SequenceConfig(frame_grid=(3, 3), frame_codes=20)
    old, new = jnp.arange(9)[None], 10 + jnp.arange(9)[None]
    middle = around_place(new, old, jnp.asarray([4]), s)
    np.testing.assert_array_equal(middle, [[10, 11, 12, 13, 4, 5, 6, 7, 8]])
    corner = around_place(new, old, jnp.asarray([8]), s)
    np.testing.assert_array_equal(corner, [[14, 15, 20, 17, 8, 20, 20, 20, 20]])
    np.testing.assert_array_equal(surroundings(old, s)[0, 4], np.arange(9))
