"""Training one network on both tasks, key frames and interpolation, from cached frame ids."""

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fv_jax import model_folder
from fv_jax.config import NetworkExperiment, Options, RetNetConfig, SequenceConfig, to_json
from fv_jax.data import shapes
from fv_jax.data.loader import RowMaker, training_batches
from fv_jax.data.token_cache import ShapesTokens
from fv_jax.generate import Generator
from fv_jax.models.retnet import RetNet, log_decays
from fv_jax.ops.decay import half_life
from fv_jax.picture import montage, save_png
from fv_jax.tokenizers.fsq import FSQTokenizer
from fv_jax.tokenizers.text import TextTokenizer
from fv_jax.training.losses import frame_loss
from fv_jax.training.state import Params
from fv_jax.vocab import Vocab

_VALID_ROWS = 64


class NetworkTask:
    """A `loop.Task` for `NetworkExperiment`."""

    def __init__(self, config: NetworkExperiment, tokens: Path):
        """`tokens` is the folder of the token cache, filled here if need be."""
        self.config = config
        self.frames = _load_tokenizer(config.tokenizer)
        self.text = TextTokenizer.train(shapes.all_captions())
        side = shapes.FRAME_SIZE // self.frames.downsample
        self.sequence = SequenceConfig(
            text_tokens=config.text_tokens,
            frame_grid=(side, side),
            text_vocabulary=self.text.size,
            frame_codes=self.frames.codebook_size,
            serial_numbers=config.serial_numbers,
        )
        slots = self.sequence.stride if config.slot_embeddings else 0
        levels = self.frames.config.levels if config.level_embeddings else ()
        self.network = dataclasses.replace(config.model, slots=slots, code_levels=levels)
        self._start = self._weights_of(config.start) if config.start else None
        longest = max(half_life(x) for x in log_decays(config.model))
        if longest < 2 * self.sequence.stride:
            warnings.warn(
                f"the longest memory halves every {longest:.0f} tokens, less than two blocks of "
                f"{self.sequence.stride}: the network can hardly see the frame before the last; "
                "raise model.memory_tokens or model.heads",
                stacklevel=2,
            )
        self._rows = RowMaker(config, self.sequence, self.text)
        self._train = ShapesTokens("train", config.train_clips, self.frames, tokens)
        self._valid = ShapesTokens("valid", config.valid_clips, self.frames, tokens)
        self._graph = model_folder.network_graph(self.network, self.sequence)
        self._evaluate = jax.jit(self.loss)
        self.tokens_per_step = config.run.batch_size * self._rows.blocks * self.sequence.stride

    def init(self, key: jax.Array) -> Params:
        """Random weights, or those of the model that the config says to start from."""
        if self._start is not None:
            return self._start
        s = self.sequence
        model = RetNet(self.network, Vocab(s).size, s.frame_codes, rngs=nnx.Rngs(key))
        return nnx.to_pure_dict(nnx.state(model, nnx.Param))

    def loss(self, params: Params, batch: Any, key: jax.Array) -> tuple[jax.Array, dict]:
        """Cross-entropy of frame ids; the key is not used (there is no dropout)."""
        del key
        model = nnx.merge(self._graph, params)
        return frame_loss(model, batch["tokens"], batch["weight"], self.sequence)

    def data(self) -> grain.DatasetIterator:
        """Batches of packed rows of both tasks, without end."""
        run = self.config.run
        return training_batches(self._train, self._rows, seed=run.seed, batch_size=run.batch_size)

    def sample(self, params: Params, picture: Path) -> dict[str, float]:
        """Videos of four fixed prompts as a montage; loss and accuracy on unseen clips."""
        prompts = [shapes.clip("valid", i).caption for i in range(4)]
        model = model_folder.Model(
            self.config.name, self._model_config(), params, self.frames, self.text
        )
        save_png(montage(Generator(model).generate(prompts, seed=0, options=Options())), picture)
        return self._validate(params)

    def export(self, params: Params, folder: Path, record: dict[str, Any]) -> None:
        """Write a model folder; the record holds that of the model it started from, too."""
        if self.config.start:
            before = model_folder.locate(self.config.start) / "training.json"
            record = {**record, "start": json.loads(before.read_text(encoding="utf-8"))}
        model_folder.save(folder, self._model_config(), params, self.frames, self.text, record)

    def _weights_of(self, name: str) -> Params:
        try:
            model = model_folder.load(name)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"no model {name!r} to start from: train it first (shapes starts from "
                "`fv train shapes_images`), or give --start '' for random weights"
            ) from error
        for part, wanted, got in (
            ("network", self._weights_need(self.network), self._weights_need(model.config.network)),
            ("sequence", to_json(self.sequence), to_json(model.config.sequence)),
        ):
            differ = [f"{k} {got[k]} instead of {v}" for k, v in wanted.items() if got[k] != v]
            if differ:
                raise ValueError(f"cannot start from {name}: its {part} has {'; '.join(differ)}")
        return model.params

    @staticmethod
    def _weights_need(network: RetNetConfig) -> dict[str, Any]:
        """The settings without which the weights mean something else."""
        return {k: v for k, v in to_json(network).items() if k not in ("chunk", "matmul_dtype")}

    def _validate(self, params: Params) -> dict[str, float]:
        rng = np.random.default_rng(0)
        rows = [self._rows(clip, rng) for clip in self._valid]
        size = min(_VALID_ROWS, len(rows))
        results = []
        for start in range(0, len(rows) - size + 1, size):
            part = rows[start : start + size]
            batch = {name: np.stack([row[name] for row in part]) for name in part[0]}
            loss, metrics = self._evaluate(params, batch, jax.random.key(0))
            results.append({"loss": loss, **metrics})
        return {n: float(jnp.mean(jnp.stack([r[n] for r in results]))) for n in results[0]}

    def _model_config(self) -> model_folder.ModelConfig:
        c = self.config
        return model_folder.ModelConfig(
            network=self.network,
            sequence=self.sequence,
            key_frames=c.key_frames,
            key_frame_fps=shapes.FPS / c.key_frame_stride,
            key_frame_stride=c.key_frame_stride,
            insertions=c.insertions,
        )


def _load_tokenizer(name: str) -> FSQTokenizer:
    """A tokenizer file by path, or the one of a shipped model by name."""
    path = Path(name)
    if not path.is_file():
        path = model_folder.SHIPPED / name / "tokenizer.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f"no tokenizer file {name!r} and no shipped model of that name; "
            "train one with `fv train shapes_tokenizer`"
        )
    return FSQTokenizer.load(path)
