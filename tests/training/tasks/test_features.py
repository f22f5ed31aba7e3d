"""The task of `shapes_features`: a loss that falls, numbers on unseen clips, weights that load."""

import jax
import numpy as np

from fv_jax.config.training import FeaturesExperiment, OptimizerConfig, RunConfig
from fv_jax.shapes.features import FeatureExtractor
from fv_jax.training import experiments
from fv_jax.training.loop import train
from fv_jax.training.tasks.features import FeaturesTask

CONFIG = FeaturesExperiment(
    name="a",
    optimizer=OptimizerConfig(warmup_steps=1, ema_decay=0.5),
    run=RunConfig(steps=3, batch_size=4, log_every=1, sample_every=3, checkpoint_every=2),
    valid_clips=6,
)


def test_it_trains_and_what_it_leaves_can_be_loaded(tmp_path):
    task = experiments.build_task(CONFIG)
    assert isinstance(task, FeaturesTask)
    model = train(task, CONFIG, tmp_path)
    assert {path.name for path in model.iterdir()} == {"network.safetensors", "training.json"}
    extractor = FeatureExtractor.load(model / "network.safetensors")
    assert extractor(np.zeros((2, 5, 64, 64, 3), np.uint8)).shape == (2, 64)


def test_rows_are_those_of_the_whole_batch():
    task = FeaturesTask(CONFIG)
    whole, part = next(iter(task.data(range(4)))), next(iter(task.data(range(1, 3))))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1:3], b), whole, part)
