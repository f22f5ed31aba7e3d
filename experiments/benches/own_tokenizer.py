"""Does `fv train own_tokenizer` make a living tokenizer of any folder, in three minutes?

Folders that killed it before are drawn here: a disc of one plain color that moves over another, any
colors, very dark, very bright, gray; the clips of `shapes`; and, where there is a folder of real
clips, all of them and one alone. Each is trained on as a user would, with several seeds.

PSNR is what the training prints, of clips held out (of one clip: of frames held out). Codes are
counted over frames of all clips of the folder. Patches are alike if no value differs by much; of
those that are not alike no code should have most.

    cost   63 minutes of CPU time: 21 trainings of three
"""

import dataclasses
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.own_tokenizer import get_config
from fv_jax.config.training import TokenizerExperiment
from fv_jax.data.split import open_whole
from fv_jax.files import write_text
from fv_jax.media.frames import Window, read
from fv_jax.media.writers import write_mp4
from fv_jax.reporting.results import markdown, record
from fv_jax.shapes import scenes
from fv_jax.tokenizers.code_use import CodeUse
from fv_jax.tokenizers.fsq import FSQTokenizer
from fv_jax.tokenizers.interface import FrameTokenizer
from fv_jax.training.loop import train
from fv_jax.training.tasks.tokenizer import TokenizerTask

_CLIPS, _FRAMES = 24, 24
_LEVELS = {  # least and most of a color, 0 to 255
    "plain": (0, 256), "dark": (0, 30), "bright": (225, 256), "gray": (0, 256),
}  # fmt: skip
_ALIKE = 16  # levels of 255
_HOME = Path("out/own_tokenizer_bench")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to train on, and where to write."""

    clips: str = "clips"
    """A folder of real clips; left out if it is not there."""
    one: str = "carphone*"
    """Which of them is also trained on alone."""
    sets: tuple[str, ...] = ("real", "plain", "one", "dark", "bright", "gray", "shapes")
    """Which folders."""
    seeds: int = 3
    """Trainings of each."""
    steps: int = 0
    """Steps of a training; 0 for the recipe's own."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


def run(settings: Settings) -> None:
    """Train, measure and record."""
    trainings: list[dict[str, object]] = []
    for name, data in _sources(settings):
        for seed in range(settings.seeds):
            done = _HOME / f"{name}-{seed}" / f"{settings.steps}-done.json"
            if not done.is_file():
                made = _trained(settings, data, name, seed)
                write_text(done, json.dumps({"set": name, "seed": seed, **made}))
            trainings.append(json.loads(done.read_text(encoding="utf-8")))
            print(trainings[-1])
    columns = {
        "set": "folder", "seed": "seed", "psnr": "PSNR of what is held out, dB",
        "codes_used": "codes in use", "codebook": "of", "perplexity": "perplexity",
        "most": "largest share of a code among patches not alike", "steps": "steps",
        "cpu_seconds": "CPU seconds", "seconds": "seconds",
    }  # fmt: skip
    rows = [[training[key] for key in columns] for training in trainings]
    table = markdown(list(columns.values()), rows)
    record("own-tokenizer", settings, {"trainings": trainings}, table)


def _sources(settings: Settings) -> Iterator[tuple[str, str]]:
    """Name and text of every set of clips asked for that there is."""
    home = _HOME / "clips"
    for name in settings.sets:
        if name in _LEVELS:
            yield name, str(_drawn(home / name, name))
        elif name == "shapes":
            yield name, str(_shapes(home / name))
        elif not Path(settings.clips).is_dir():
            print(f"no folder {settings.clips}: {name} is left out")
        elif name == "real":
            yield name, settings.clips
        elif name == "one":
            yield name, f"folder:{settings.clips},match={settings.one}"
        else:
            raise ValueError(f"no set {name!r}; there are: {', '.join(Settings().sets)}")


def _drawn(folder: Path, name: str) -> Path:
    """Clips of a disc that moves over a plain ground."""
    rng, (low, high) = np.random.default_rng(0), _LEVELS[name]
    y, x = np.mgrid[:160, :160]
    for i in range(_CLIPS):
        colors = rng.integers(low, high, (2, 3))
        if name == "gray":
            colors = colors[:, :1].repeat(3, 1)
        radius, place, speed = rng.uniform(15, 35), rng.uniform(40, 120, 2), rng.uniform(-5, 5, 2)
        centers = 20 + np.abs((place + speed * np.arange(_FRAMES)[:, None] - 20) % 240 - 120)
        inside = [(x - cx) ** 2 + (y - cy) ** 2 < radius**2 for cx, cy in centers]
        frames = np.where(np.stack(inside)[..., None], *colors).astype(np.uint8)
        write_mp4(frames, 8.0, folder / f"{i:02}.mp4")
    return folder


def _shapes(folder: Path) -> Path:
    for i in range(_CLIPS):
        frames = scenes.render(scenes.clip("train", i), np.arange(scenes.NUM_FRAMES))
        write_mp4(frames, 8.0, folder / f"{i:02}.mp4")
    return folder


def _trained(settings: Settings, data: str, name: str, seed: int) -> dict[str, object]:
    """One training as a user would start it, and what came of it."""
    config = get_config()
    steps = settings.steps or config.run.steps
    home = _HOME / f"{name}-{seed}"
    run = dataclasses.replace(config.run, seed=seed, steps=steps, sample_every=steps)
    config = dataclasses.replace(config, data=data, run=run)
    begun, cpu = time.perf_counter(), sum(os.times()[:2])
    task = TokenizerTask(config, home / "pixels")
    model = train(task, config, home)
    seconds, cpu = time.perf_counter() - begun, sum(os.times()[:2]) - cpu
    tokenizer = FSQTokenizer.load(model / "tokenizer.safetensors")
    made = task.sample({"autoencoder": tokenizer.params}, home / "sample.png")
    return {
        "psnr": made["psnr"], **_use(tokenizer, config), "steps": steps,
        "cpu_seconds": round(cpu), "seconds": round(seconds), "warning": task.warning(model),
    }  # fmt: skip


def _use(tokenizer: FrameTokenizer, config: TokenizerExperiment) -> dict[str, float]:
    """The use of codes by all frames of all clips, each alone."""
    grids, kinds, window = [], [], Window(0, config.size)
    for entry in open_whole(config.data).entries:
        frames = read(entry.open(), window)
        grids.append(tokenizer.encode(frames))
        f, side = tokenizer.downsample, config.size // tokenizer.downsample
        patches = frames.reshape(-1, side, f, side, f, 3).swapaxes(2, 3)
        kinds.append(np.c_[grids[-1].ravel(), patches.reshape(grids[-1].size, -1) // _ALIKE])
        kinds[-1] = np.unique(kinds[-1], axis=0)
    use = CodeUse.of(grids, tokenizer.codebook_size)
    ids = np.unique(np.concatenate(kinds), axis=0)[:, 0]
    most = np.bincount(ids).max() / len(ids)
    return {
        "codes_used": use.used, "codebook": use.codebook, "perplexity": use.perplexity,
        "most": float(most),
    }  # fmt: skip
