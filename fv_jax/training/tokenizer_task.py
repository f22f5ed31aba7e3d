"""Training the frame tokenizer on crops where two frames of a clip differ.

Most patches of a frame are plain background. Crops are therefore taken around what changed
between two frames of one clip, and patches that changed weigh more: no annotation is needed,
only video.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image

from fv_jax.config import TokenizerExperiment
from fv_jax.data import shapes
from fv_jax.files import replacing, write_text
from fv_jax.metrics.frame_quality import psnr
from fv_jax.tokenizers.fsq import FSQTokenizer, to_float
from fv_jax.tokenizers.patch_autoencoder import PatchAutoencoder
from fv_jax.tokenizers.quantiser import FSQ
from fv_jax.training.state import Params

_CHANGE = 8  # levels of 255: a patch whose pixels differ by more has changed
_MSE_WEIGHT = 8.0  # of the squared error beside the absolute one, for pixels in [-1, 1]


class TokenizerTask:
    """A `loop.Task` for `TokenizerExperiment`."""

    def __init__(self, config: TokenizerExperiment):
        self.config = config
        self.tokens_per_step = 2 * config.run.batch_size * config.crop**2
        self._fsq = FSQ(config.tokenizer.levels)
        model = nnx.eval_shape(lambda: PatchAutoencoder(config.tokenizer, rngs=nnx.Rngs(0)))
        self._graph = nnx.graphdef(model)

    def init(self, key: jax.Array) -> Params:
        """Fresh weights."""
        model = PatchAutoencoder(self.config.tokenizer, rngs=nnx.Rngs(key))
        return nnx.to_pure_dict(nnx.state(model, nnx.Param))

    def loss(self, params: Params, batch: Any, key: jax.Array) -> tuple[jax.Array, dict]:
        """Weighted absolute and squared error of clean pixels, from slightly noisy ones."""
        model = nnx.merge(self._graph, params)
        pixels = to_float(batch["frames"])
        key_noise, key_scale = jax.random.split(key)
        scale = jax.random.uniform(key_scale, (pixels.shape[0], 1, 1, 1))
        noise = jax.random.normal(key_noise, pixels.shape) * scale * self.config.noise / 127.5
        error = model.pixels(self._fsq.quantise(model.latent(pixels + noise))) - pixels
        per_pixel = jnp.abs(error) + _MSE_WEIGHT * error**2
        per_patch = _per_patch(per_pixel, self.config.tokenizer.patch).mean((2, 4, 5))
        weight = jnp.where(batch["changed"], self.config.changed_weight, self.config.plain_weight)
        loss = jnp.sum(per_patch * weight) / jnp.sum(weight)
        return loss, {"mse": jnp.mean(error**2)}

    def data(self) -> grain.DatasetIterator:
        """Pairs of crops, every one new; example i is a pure function of (seed, i)."""
        run = self.config.run
        batches = (
            grain.MapDataset.range(run.steps * run.batch_size)
            .map(self._example)
            .batch(run.batch_size, batch_fn=_merge_pairs)
            .to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=64))
        )
        return iter(batches)

    def sample(self, params: Params, picture: Path) -> dict[str, float]:
        """A picture of true (top) and decoded (bottom) frames of unseen clips; PSNR, codes."""
        clips = [shapes.clip("valid", i) for i in range(self.config.evaluation_clips)]
        frames = np.stack([shapes.render(clip, np.asarray([0, 8, 16])) for clip in clips])
        tokenizer = FSQTokenizer(self.config.tokenizer, params)
        ids = tokenizer.encode(frames.reshape(-1, *frames.shape[2:]))
        decoded = tokenizer.decode(ids).reshape(frames.shape)
        rows = [np.concatenate(list(video[:8, 0]), axis=1) for video in (frames, decoded)]
        with replacing(picture) as temporary:
            Image.fromarray(np.concatenate(rows)).save(temporary)
        return {"psnr": psnr(frames, decoded), "codes_used": float(len(np.unique(ids)))}

    def export(self, params: Params, folder: Path, record: dict[str, Any]) -> None:
        """Write tokenizer.safetensors and tokenizer_training.json."""
        FSQTokenizer(self.config.tokenizer, params).save(folder / "tokenizer.safetensors")
        write_text(folder / "tokenizer_training.json", json.dumps(record, indent=1) + "\n")

    def _example(self, index: int) -> dict[str, np.ndarray]:
        """Two crops of one clip [2, Y, X, 3] at the same place, and which patches differ."""
        config, patch = self.config, self.config.tokenizer.patch
        rng = np.random.default_rng([config.run.seed, index])
        clip = shapes.clip("train", int(rng.integers(2**31)))
        frames = shapes.render(clip, rng.choice(shapes.NUM_FRAMES, 2, replace=False))
        difference = np.abs(frames[0].astype(int) - frames[1]).max(-1, keepdims=True)[None]
        changed = _per_patch(difference, patch).max((0, 2, 4, 5)) > _CHANGE
        places = np.argwhere(changed)
        centre = places[rng.integers(len(places))] if len(places) else np.zeros(2, int)
        grid = np.asarray(changed.shape)
        low = np.clip(centre - rng.integers(config.crop, size=2), 0, grid - config.crop)
        rows, columns = (slice(start, start + config.crop) for start in low)
        pixel_rows, pixel_columns = (
            slice(start * patch, (start + config.crop) * patch) for start in low
        )
        return {
            "frames": frames[:, pixel_rows, pixel_columns],
            "changed": np.stack([changed[rows, columns]] * 2),
        }


def _per_patch(pixels, patch: int):
    """[B, Y, X, C] as [B, h, patch, w, patch, C]."""
    b, height, width, channels = pixels.shape
    return pixels.reshape(b, height // patch, patch, width // patch, patch, channels)


def _merge_pairs(examples: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([e[name] for e in examples]) for name in examples[0]}
