"""A training task that takes milliseconds: fit a line to points, with noise from the step's key."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from fv_jax.config.training import OptimizerConfig, RunConfig
from fv_jax.data.batches import Batches, OwnRows


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What `loop.train` wants of an experiment."""

    run: RunConfig = RunConfig(
        steps=6, batch_size=4, log_every=1, sample_every=4, checkpoint_every=2
    )
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=0.1, warmup_steps=2)


class LineTask:
    """A `loop.Task`. `on_sample` runs whenever a sample is drawn, to raise or send signals."""

    tokens_per_step = 4
    start = None
    frozen: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, on_sample: Callable[[], Any] = lambda: None):
        self.on_sample = on_sample
        self.exported: Any = None

    def init(self, key: jax.Array) -> Any:
        return {"layer": {"w": jax.random.normal(key, (3, 2)), "b": jnp.zeros(2)}}

    def loss(self, params: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, dict]:
        x = batch["x"] + 0.01 * jax.random.normal(key, batch["x"].shape)
        error = x @ params["layer"]["w"] + params["layer"]["b"] - batch["y"]
        return jnp.mean(error**2), {"largest": jnp.abs(error).max()}

    def axes(self) -> Any:
        return None

    def data(self, rows: Sequence[int] = range(4)) -> grain.DatasetIterator:
        examples = grain.MapDataset.range(50).seed(3).shuffle().repeat().map(_example)
        return Batches(grain.MapDataset.source(OwnRows(examples, 4, rows)).batch(len(rows)))

    def sample(self, params: Any, picture: Path) -> dict[str, float]:
        self.on_sample()
        Image.new("RGB", (4, 2), "red").save(picture)
        return {"norm": float(jnp.linalg.norm(params["layer"]["w"]))}

    def export(self, params: Any, folder: Path, record: dict[str, Any]) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "record.json").write_text(json.dumps(record))
        self.exported = jax.tree.map(np.asarray, params)


def _example(index: int) -> dict[str, np.ndarray]:
    x = np.random.default_rng(index).normal(size=3).astype(np.float32)
    return {"x": x, "y": x[:2] * 2 - x[2] + np.float32([1, -1])}
