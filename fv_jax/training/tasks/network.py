"""Training one network on both tasks, key frames and interpolation, from cached frame ids."""

import functools
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fv_jax.config.model import Options
from fv_jax.config.training import NetworkExperiment
from fv_jax.data.batches import Batches, training_batches
from fv_jax.data.rows import RowMaker, whole_frames
from fv_jax.generation import pretrained
from fv_jax.generation.generator import Generator
from fv_jax.generation.skip_mask import harmless_share, regions, ring
from fv_jax.media.montage import montage, save_png
from fv_jax.models.retnet import log_decays
from fv_jax.ops.decay import half_life
from fv_jax.provenance import cores
from fv_jax.tokenizers.code_use import CodeUse
from fv_jax.tokenizers.text import TextTokenizer
from fv_jax.training.mesh import resolved
from fv_jax.training.state import Params
from fv_jax.training.tasks.network_data import NetworkData, network_data
from fv_jax.training.tasks.network_loss import NetworkLoss, sequence_config
from fv_jax.training.tasks.start import check_fits, model_to_start_from

_CLIPS_LOOKED_AT = 64
_LEAST_VALID_ROWS = 16
_MOST_VALID_ROWS = 512


class NetworkTask(NetworkLoss):
    """A `loop.Task` for `NetworkExperiment`: `NetworkLoss` with its data."""

    def __init__(
        self,
        config: NetworkExperiment,
        data: NetworkData,
        start: pretrained.Model | None = None,
        devices: int | None = None,
    ):
        """Ready to train on a mesh of `devices`, None for as many as there are.

        Raises:
            ValueError: the longest text does not fit, or neither does the model to start from.
        """
        self._data, self.frames = data, data.ids.tokenizer
        self.text = start.text if start else _text_tokenizer(config.text, data.train.texts)
        sequence = sequence_config(
            config,
            grid=data.ids.grid,
            codes=self.frames.codebook_size,
            text_vocabulary=self.text.size,
            text_tokens=self._text_tokens(config),
        )
        super().__init__(config, sequence, data.ids.levels, devices or jax.device_count())
        if start:
            check_fits(config, start, self.network, self.sequence)
            self.start = start.params
        longest = max(half_life(x) for x in log_decays(config.model))
        if longest < 2 * self.sequence.stride:
            warnings.warn(
                f"the longest memory halves every {longest:.0f} tokens, less than two blocks of "
                f"{self.sequence.stride}: the network can hardly see the frame before the last; "
                "raise model.memory_tokens or model.heads",
                stacklevel=2,
            )
        radius = ring(self.frames.reach, self.sequence.frame_grid)
        self.rows = RowMaker(config, self.sequence, self.text, self.blocks, self.parts, radius)
        if config.changes and not config.live:
            self.tokens_per_step = self._mean_tokens()
        self._evaluate = jax.jit(self.loss)

    def _text_tokens(self, config: NetworkExperiment) -> int:
        """Slots for the text: as many as asked for, or as the longest text needs.

        Raises:
            ValueError: it needs more than asked for.
        """
        texts = {*self._data.train.texts, *self._data.valid.texts}
        longest = max(texts, key=lambda text: len(self.text.encode(text)))
        needed = len(self.text.encode(longest))
        if config.text_tokens and needed > config.text_tokens:
            raise ValueError(
                f"a block has text_tokens={config.text_tokens} slots, but the text "
                f"{longest[:60]!r} has {needed} tokens; give --text-tokens {needed} or more, or 0"
            )
        return config.text_tokens or max(1, needed)

    def _mean_tokens(self) -> int:
        """Tokens of a batch of changes: as much room as some clips need."""
        clips, size, mean = self._data.train, self.config.run.batch_size, 0.0
        batches = max(_CLIPS_LOOKED_AT // size, 1)
        for share, kind in self.rows.kinds:
            rng = np.random.default_rng(0)
            indices = (i % len(clips) for i in range(batches * size))
            rows = [self.rows(clips.draw(i, rng), rng, kind) for i in indices]
            made = self.rows.batches_of(rows, kind, size)
            mean += share * float(np.mean([len(batch[0]["tokens"]) for batch in made]))
        return round(size * mean)

    @property
    def prompts(self) -> list[str]:
        """Texts of unseen clips, each once, for samples."""
        return list(dict.fromkeys(self._data.valid.texts))[:4]

    def next_command(self, model: Path) -> str:
        """What to do with the trained model."""
        suffix = "mp4" if self.config.key_frames > 1 else "png"
        return f'fv generate "{self.prompts[0]}" --model {model} --out out/video.{suffix}'

    def warning(self, model: Path) -> str:
        """What is wrong with the ids it was trained on, in a line; "" if they tell frames apart."""
        clips, rng = self._data.train, np.random.default_rng(0)
        some = np.linspace(0, len(clips) - 1, min(len(clips), _CLIPS_LOOKED_AT)).astype(int)
        ids = (clips.draw(i, rng)[1] for i in some.tolist())
        use = CodeUse.of(ids, self.frames.codebook_size)
        if not use.problem:
            return ""
        if not use.is_dead:
            return (
                f"{model} was trained on ids that use few codes: {use.problem}; if its tokenizer's "
                "samples look right, the clips need no more, else train that longer (--run.steps)"
            )
        return (
            f"{model} was trained on ids of a dead tokenizer and makes gray: {use.problem}; train "
            "the tokenizer on these clips (fv train own_tokenizer), tokenize them anew, train again"
        )

    def data(self, rows: Sequence[int]) -> Batches:
        """These packed rows of every batch, of both tasks, without end."""
        run = self.config.run
        return training_batches(
            self._data.train, self.rows, seed=run.seed, batch_size=run.batch_size, own=rows,
            workers=self.config.workers, threads=cores() if self.config.live else 1,
        )  # fmt: skip

    def sample(self, params: Params, picture: Path) -> dict[str, float]:
        """Videos of up to four texts as a montage; loss and accuracy on unseen clips."""
        model = pretrained.Model(
            self.config.name, self._model_config(), params, self.frames, self.text
        )
        clips = Generator(model).generate(self.prompts, seed=0, options=Options())
        save_png(montage(clips), picture)
        return self._validate(params)

    def export(self, params: Params, folder: Path, record: dict[str, Any]) -> None:
        """Write a model folder; the record holds that of the model it started from, too."""
        if self.config.start:
            before = pretrained.locate(self.config.start) / "training.json"
            record = {**record, "start": json.loads(before.read_text(encoding="utf-8"))}
        pretrained.save(folder, self._model_config(), params, self.frames, self.text, record)

    def _validate(self, params: Params) -> dict[str, float]:
        rng = np.random.default_rng(0)
        valid, run = self._data.valid, self.config.run
        # Few clips are drawn from several times, so that rows of both tasks are among them.
        count = max(len(valid), min(_LEAST_VALID_ROWS, 4 * len(valid)))
        count = min(count, _MOST_VALID_ROWS)
        # One device does it: as many rows at a time as it trains on.
        mesh = resolved(run.mesh, jax.device_count())
        size = min(max(run.batch_size // run.accumulate // (mesh.data * mesh.fsdp), 1), count)
        results = []
        for start in range(0, count, size):
            indices = (i % len(valid) for i in range(start, min(start + size, count)))
            kind = self.rows.kind(rng)
            part = [self.rows(valid.draw(i, rng), rng, kind) for i in indices]
            (part,) = self.rows.batches_of(part, kind, size)
            batch = {name: np.stack([row[name] for row in part]) for name in part[0]}
            loss, metrics = self._evaluate(params, batch, jax.random.key(0))
            results.append({"loss": loss, **metrics})
        column = lambda name: np.asarray([result[name] for result in results], float)
        weight = column("weight")
        return {
            name: float((column(name) * weight).sum() / weight.sum())
            for name in results[0]
            if name != "weight"
        }

    @functools.cached_property
    def _inherit(self) -> tuple[tuple[int, float], ...]:
        """What frames may inherit in each gap that is trained, from clips held out."""
        valid, rng, radius = self._data.valid, np.random.default_rng(0), self.rows.radius
        found = {
            gap: np.zeros(2, int) for gap in sorted({gap for gap, _ in self.config.insertions})
        }
        for index in range(min(len(valid), _CLIPS_LOOKED_AT)):
            frames = valid.draw(index, rng)[1].astype(np.int32)
            frames = frames.reshape(len(frames), *self.sequence.frame_grid)
            for gap, counts in found.items():
                for first in range(0, len(frames) - gap, gap):
                    a, *between, b = frames[first : first + gap + 1]
                    stable = regions(a, b, radius).stable
                    wrong = sum(int((frame != a)[stable].sum()) for frame in between)
                    counts += (len(between) * int(stable.sum()), wrong)
        return tuple((gap, harmless_share(*counts.tolist())) for gap, counts in found.items())

    def _model_config(self) -> pretrained.ModelConfig:
        c = self.config
        return pretrained.ModelConfig(
            network=self.network,
            sequence=self.sequence,
            key_frames=c.key_frames,
            key_frame_fps=self._data.ids.fps / c.key_frame_stride,
            key_frame_stride=c.key_frame_stride,
            insertions=c.insertions,
            given_frames=c.given_frames,
            skip=whole_frames(c) if c.skip and not c.changes else 0,
            inherit=self._inherit,
        )


def network_task(
    config: NetworkExperiment, folder: Path, devices: int | None = None
) -> NetworkTask:
    """The task of an experiment: what can be refused is, before any clip is read.

    Args:
        config: the experiment.
        folder: the place for the tokens of a source.
        devices: the size of the mesh, None for as many devices as there are.

    Raises:
        FileNotFoundError: no such model to start from, tokenizer or data.
        ValueError: one of them is damaged, or they do not fit together.
    """
    start = model_to_start_from(config)
    data = network_data(config, folder)
    return NetworkTask(config, data, start, devices)


def _text_tokenizer(path: str, texts: Sequence[str]) -> TextTokenizer:
    """The file given, or one made of the training texts' words."""
    return TextTokenizer.load(path) if path else TextTokenizer.train(texts)
