"""Training the feature network of `shapes-FVD` on rendered clips, no two of them the same."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from PIL import Image

from fv_jax.config.training import FeaturesExperiment
from fv_jax.data.batches import Batches, OwnRows
from fv_jax.files import replacing, write_text
from fv_jax.shapes import scenes
from fv_jax.shapes.features import (
    NUMBERS,
    FeatureExtractor,
    ShapesFeatures,
    graph,
    truth,
)
from fv_jax.training.state import Params

_VALID_BATCH = 32


class FeaturesTask:
    """A `loop.Task` for `FeaturesExperiment`."""

    start: Params | None = None

    def __init__(self, config: FeaturesExperiment):
        self.config = config
        self.frozen: dict[str, Any] = {}
        self.tokens_per_step = config.run.batch_size * scenes.NUM_FRAMES  # frames, for the log
        self._evaluate = jax.jit(self.loss)

    def next_command(self, model: Path) -> str:
        """What to do with the trained network."""
        return f"fv bench shapes-fvd --features {model / 'network.safetensors'}"

    def warning(self, model: Path) -> str:
        """Nothing can be wrong with it that its numbers do not say."""
        return ""

    def init(self, key: jax.Array) -> Params:
        """Random weights."""
        return nnx.to_pure_dict(nnx.state(ShapesFeatures(rngs=nnx.Rngs(key)), nnx.Param))

    def axes(self) -> None:
        """Every device keeps all weights: there are few."""
        return None

    def loss(self, params: Params, batch: Any, key: jax.Array) -> tuple[jax.Array, dict]:
        """Cross-entropy of the attributes' words plus the squared error of the numbers."""
        del key
        network = nnx.merge(graph(), params)
        logits, numbers = network.read(network(batch["frames"]))
        losses, metrics = [], {}
        for i, (name, scores) in enumerate(logits.items()):
            word = batch["words"][:, i]
            losses.append(optax.softmax_cross_entropy_with_integer_labels(scores, word).mean())
            metrics[f"{name}_right"] = jnp.mean(scores.argmax(-1) == word)
        error = jnp.mean((numbers - batch["numbers"]) ** 2, axis=0)
        for i, (name, unit) in enumerate(NUMBERS.items()):
            metrics[f"{name}_error_px"] = jnp.sqrt(error[i]) * unit
        return sum(losses) + error.sum(), metrics

    def data(self, rows: Sequence[int]) -> Batches:
        """Rendered clips; the one at place i of the run is clip i of the training split."""
        run = self.config.run
        clips = grain.MapDataset.range(run.steps * run.batch_size)
        examples = clips.map(lambda index: _example("train", int(index)))
        own = grain.MapDataset.source(OwnRows(examples, run.batch_size, rows))
        return Batches(own.batch(len(rows)), threads=1)

    def sample(self, params: Params, picture: Path) -> dict[str, float]:
        """How often words are right and how far numbers are off, on unseen clips.

        The picture is a bar per feature, as high as it varies among them.
        """
        examples = [_example("valid", i) for i in range(self.config.valid_clips)]
        stack = lambda part: {name: np.stack([e[name] for e in part]) for name in part[0]}
        starts = range(0, len(examples), _VALID_BATCH)
        batches = [stack(examples[start : start + _VALID_BATCH]) for start in starts]
        results = [(self._evaluate(params, b, jax.random.key(0)), len(b["words"])) for b in batches]
        weights = [count for _, count in results]
        mean = lambda values: float(np.average(np.asarray(values, float), weights=weights))
        root = lambda values: mean(np.square(values)) ** 0.5
        features = FeatureExtractor(params)(np.concatenate([b["frames"] for b in batches]))
        with replacing(picture) as temporary:
            Image.fromarray(_bars(features.std(0))).save(temporary, format="png")
        found = {
            name: root([m[name] for (_, m), _ in results])
            if name.endswith("_error_px")  # these are roots of means of squares
            else mean([m[name] for (_, m), _ in results])
            for name in results[0][0][1]
        }
        return {"loss": mean([loss for (loss, _), _ in results]), **found}

    def export(self, params: Params, folder: Path, record: dict[str, Any]) -> None:
        """Write network.safetensors and training.json."""
        folder.mkdir(parents=True, exist_ok=True)
        FeatureExtractor(params).save(folder / "network.safetensors")
        write_text(folder / "training.json", json.dumps(record, indent=1) + "\n")


def _example(split: str, index: int) -> dict[str, np.ndarray]:
    clip = scenes.clip(split, index)
    words, numbers = truth(clip)
    return {"frames": scenes.render(clip), "words": words, "numbers": numbers}


def _bars(heights: np.ndarray, pixels: int = 64) -> np.ndarray:
    levels = np.round(heights / max(float(heights.max()), 1e-9) * pixels).astype(int)
    lit = np.arange(pixels)[::-1, None] < levels
    return np.repeat(np.where(lit, 255, 0).astype(np.uint8), 4, axis=1)
