"""Training the frame tokenizer on crops where two frames of a clip differ.

Most patches of a frame are plain background. Crops are therefore taken around what changed
between two frames of one clip, and patches that changed may weigh more.
"""

import functools
import hashlib
import json
import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
from PIL import Image

from fv_jax.config.model import TokenSettings, to_json
from fv_jax.config.training import TokenizerExperiment
from fv_jax.data.batches import Batches, OwnRows
from fv_jax.data.pairs import Pairs, ShapePairs, VideoPairs, varied
from fv_jax.data.skips import Skips, check_some_opens, report_problems
from fv_jax.data.sources.base import Entry
from fv_jax.data.split import open_split
from fv_jax.files import replacing, write_text
from fv_jax.media.frames import Window, read_centered
from fv_jax.media.readers import ClipError
from fv_jax.metrics import psnr
from fv_jax.metrics.token_stability import stability
from fv_jax.shapes import scenes
from fv_jax.tokenizers.code_use import CodeUse
from fv_jax.tokenizers.fsq import FSQTokenizer
from fv_jax.tokenizers.load import load_tokenizer
from fv_jax.training.state import Params
from fv_jax.training.tasks.tokenizer_losses import TokenizerLoss, per_patch
from fv_jax.training.tasks.tokenizer_start import codec_start

_CHANGE = 8  # levels of 255: a patch whose pixels differ by more has changed
_EVALUATION_FRAMES = 9
_FEW_CLIPS = 1000  # of fewer each is shown in other colors, too
_START_PATCHES = 10_000
_TRAINED_FRAMES = 64  # that the use of codes is counted on, beside those for evaluation


class TokenizerTask:
    """A `loop.Task` for `TokenizerExperiment`.

    Its weights are {"autoencoder": .., "discriminator": ..}, the second only where it is used.
    """

    def __init__(self, config: TokenizerExperiment, folder: Path):
        """`folder` is where pixels of videos are kept, source by source, read here if need be."""
        self.config = config
        self.tokens_per_step = 2 * config.run.batch_size * config.crop**2
        self.loss = TokenizerLoss(config)
        self.frozen = {"lpips": self.loss.lpips} if self.loss.lpips else {}
        self._before = self._tokenizer_to_start_from() if config.start else None
        self._pairs: Pairs
        if config.data == "shapes":
            self._pairs, self._valid = ShapePairs(), _shape_frames(config.evaluation_clips)
            self._augment = False  # there is no end of clips
        else:
            if jax.process_count() > 1:
                raise ValueError(
                    "a tokenizer is trained on videos by one process; it may have several devices"
                )
            train, valid = open_split(config.data, config.valid, config.valid_share)
            report_problems(train.source, valid.source, strict=config.strict)
            check_some_opens(train.source)
            self._augment = config.augment and len(train.entries) < _FEW_CLIPS
            home, other = (_home(folder, s) for s in (config.data, config.valid or config.data))
            skips = lambda source: Skips(source / "left_out", strict=config.strict)
            self._valid = _video_frames(valid.entries, config, skips(other))
            self._pairs = VideoPairs(
                train.entries, count=config.pairs, size=config.size, folder=home, skips=skips(home)
            )

    def next_command(self, model: Path) -> str:
        """What to do with the trained tokenizer."""
        source = "SOURCE" if self.config.data == "shapes" else shlex.quote(self.config.data)
        size = "" if self.config.size == TokenSettings.size else f" --size {self.config.size}"
        return f"fv tokenize {source} --tokenizer {model}{size} --out out/tokens/mine"

    def warning(self, model: Path) -> str:
        """What is wrong with the trained tokenizer, in a line; "" if it uses its codes."""
        tokenizer = FSQTokenizer.load(model / "tokenizer.safetensors")
        return self._code_use(tokenizer).warning(model)

    def init(self, key: jax.Array) -> Params:
        """Random weights."""
        return self.loss.init(key)

    def axes(self) -> None:
        """Every device keeps all weights: there are few."""
        return None

    @functools.cached_property
    def start(self) -> Params:
        """The autoencoder that the config names, or a codec of the data; a new discriminator."""
        config = self.config
        params = jax.jit(self.init)(jax.random.key(config.run.seed))
        if self._before:
            autoencoder = _renamed(self._before.params, params["autoencoder"])
        else:
            count = -(-_START_PATCHES // (2 * config.crop**2))
            frames = np.concatenate([self._example(i)["frames"] for i in range(count)])
            autoencoder = codec_start(config.tokenizer, params["autoencoder"], frames)
        return params | {"autoencoder": autoencoder}

    def _tokenizer_to_start_from(self) -> FSQTokenizer:
        config = self.config
        before = load_tokenizer(config.start)
        if before.config != config.tokenizer:
            raise ValueError(
                f"cannot start from {config.start}: its config is "
                f"{to_json(before.config)} instead of {to_json(config.tokenizer)}"
            )
        return before

    def data(self, rows: Sequence[int]) -> Batches:
        """Pairs of crops, these of every batch; example i is a pure function of (seed, i)."""
        run = self.config.run
        examples = grain.MapDataset.range(run.steps * run.batch_size).map(self._example)
        own = grain.MapDataset.source(OwnRows(examples, run.batch_size, rows))
        return Batches(own.batch(len(rows)), threads=2)

    def sample(self, params: Params, picture: Path) -> dict[str, float]:
        """A picture of true (top) and decoded (bottom) frames of unseen clips; PSNR, codes.

        Codes are counted on training frames, too: few clips may show few colors. Of videos also
        what `stability` says, but for what is NaN, which JSON does not know.
        """
        tokenizer, frames = self._tokenizer(params), self._valid
        flat = tokenizer.encode(frames.reshape(-1, *frames.shape[2:]))
        decoded = tokenizer.decode(flat).reshape(frames.shape)
        ids = flat.reshape(*frames.shape[:2], *flat.shape[1:])
        rows = [np.concatenate(list(video[:8, 0]), axis=1) for video in (frames, decoded)]
        with replacing(picture) as temporary:
            Image.fromarray(np.concatenate(rows)).save(temporary)
        use = self._code_use(tokenizer)
        values = {
            "psnr": psnr(frames, decoded), "codes_used": float(use.used),
            "perplexity": use.perplexity,
        }  # fmt: skip
        if self.config.data == "shapes":
            return values
        stable = stability(frames, ids, tokenizer.downsample)
        return values | {k: v for k, v in stable.items() if not math.isnan(v)}

    def export(self, params: Params, folder: Path, record: dict[str, Any]) -> None:
        """Write tokenizer.safetensors and tokenizer_training.json."""
        self._tokenizer(params).save(folder / "tokenizer.safetensors")
        write_text(folder / "tokenizer_training.json", json.dumps(record, indent=1) + "\n")

    def _code_use(self, tokenizer: FSQTokenizer) -> CodeUse:
        draws = (np.random.default_rng([self.config.run.seed, i]) for i in range(_TRAINED_FRAMES))
        trained = np.stack([self._pairs.draw(rng)[0] for rng in draws])
        frames = np.concatenate([self._valid.reshape(-1, *trained.shape[1:]), trained])
        return CodeUse.of([tokenizer.encode(frames)], tokenizer.codebook_size)

    def _tokenizer(self, params: Params) -> FSQTokenizer:
        return FSQTokenizer(self.config.tokenizer, params["autoencoder"])

    def _example(self, index: int) -> dict[str, np.ndarray]:
        """Two crops of one clip [2, Y, X, 3] at the same place, and which patches differ."""
        config, patch = self.config, self.config.tokenizer.patch
        rng = np.random.default_rng([config.run.seed, index])
        frames = self._pairs.draw(rng)
        places = np.argwhere(_changed(frames, patch))
        grid = np.asarray(frames.shape[1:3]) // patch
        center = places[rng.integers(len(places))] if len(places) else rng.integers(grid)
        low = np.clip(center - rng.integers(config.crop, size=2), 0, grid - config.crop)
        rows, columns = (slice(start * patch, (start + config.crop) * patch) for start in low)
        crops = frames[:, rows, columns]
        if self._augment and rng.uniform() < 0.5:
            crops = varied(crops, rng)
        return {"frames": crops, "changed": np.stack([_changed(crops, patch)] * 2)}


def _changed(pair: np.ndarray, patch: int) -> np.ndarray:
    """Which patches differ between two frames, bool [h, w]."""
    difference = np.abs(pair[0].astype(int) - pair[1]).max(-1, keepdims=True)[None]
    return np.asarray(per_patch(difference, patch).max((0, 2, 4, 5)) > _CHANGE)


def _home(folder: Path, source: str) -> Path:
    """A source's own folder: clips of different sources may have the same ids."""
    words = re.sub(r"[^a-zA-Z0-9]+", "-", source).strip("-")[-40:]
    return folder / f"{words}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"


def _renamed(loaded: Params, names: Params) -> Params:
    """Weights by a file's names under those of `names`.

    nnx numbers the modules of a list; a file's names sort otherwise from ten modules on.
    """
    if not isinstance(names, dict):
        return loaded
    return {key: _renamed(loaded[str(key)], part) for key, part in names.items()}


def _video_frames(
    entries: Sequence[Entry], config: TokenizerExperiment, skips: Skips
) -> np.ndarray:
    """Consecutive frames from the middle of unseen clips, uint8 [N, 9, S, S, 3]."""
    found = []
    for entry in entries:
        if len(found) == config.evaluation_clips:
            break
        try:
            reader = entry.open()
            count = _EVALUATION_FRAMES
            if len(entries) == 1:  # no other must match it
                count = min(count, len(reader.times))
            found.append(read_centered(reader, Window(0, config.size, count)))
        except ClipError as error:
            skips.add(entry.id, error)
    if not found:
        raise ValueError(f"none of {len(entries)} clips for evaluation can be read")
    return np.stack(found)


def _shape_frames(count: int) -> np.ndarray:
    """First, middle and last frame of unseen clips of `shapes`, uint8 [N, 3, Y, X, 3]."""
    clips = [scenes.clip("valid", i) for i in range(count)]
    return np.stack([scenes.render(clip, np.asarray([0, 8, 16])) for clip in clips])
