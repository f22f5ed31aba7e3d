"""What it is worth that inherited ids cost nothing (paper section 3.3).

Key frames of unseen clips are encoded, and all gaps between them filled, level by level.

tokens    read for an inserted frame, by share inherited: header and ids, without A and B
time      to fill the gaps of one clip and of several at once, all ways in turns, compiled before,
          medians: inherit 1 against 0 one id at a time, and with the windows and guesses that
          `fv generate` takes; and fed instead of left out
quality   PSNR of inserted frames against the clip's own, by share inherited, left out and fed; with
          the clip's caption and without; and how many of the copied ids are not the true ones
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from experiments.benches.interpolation import blend
from experiments.timing import in_turns
from fv_jax.config.model import Options
from fv_jax.data.sources.base import open_source
from fv_jax.generation.gaps import VideoIds
from fv_jax.generation.generator import Generator
from fv_jax.generation.interpolation import interpolate
from fv_jax.generation.plan import Plan, frames_a_gap, inserted, plan_interpolation
from fv_jax.generation.stats import Stats
from fv_jax.media.frames import frame_numbers
from fv_jax.metrics.signal_to_noise import psnr_per_frame
from fv_jax.reporting.results import markdown, record

_SHARES = (0.0, 0.2, 0.5, 1.0)
_WAYS = {
    "one id at a time, inherit 0": Options(inherit=0.0, window=1, drafts=False),
    "one id at a time, inherit 1": Options(inherit=1.0, window=1, drafts=False),
    "one id at a time, inherit 1, fed": Options(inherit=1.0, window=1, drafts=False, skip=False),
    "windows and guesses, inherit 0": Options(inherit=0.0),
    "windows and guesses, inherit 1": Options(inherit=1.0),
    "windows and guesses, inherit 1, fed": Options(inherit=1.0, skip=False),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and where to write the result."""

    model: str = "shapes"
    """A shipped model's name, or a model folder; one that was trained to do without ids."""
    source: str = "shapes,split=test,count=96"
    """Unseen clips, of the model's size and rate."""
    batch: int = 8
    """Clips whose gaps are filled at once, beside one."""
    repeats: int = 7
    """Timed calls of each; the median counts."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


@dataclasses.dataclass(frozen=True)
class _Clip:
    """An unseen clip: its text, frames and ids from one key frame to the last."""

    text: str
    video: np.ndarray
    ids: np.ndarray


def run(settings: Settings) -> None:
    """Measure and record.

    Raises:
        ValueError: the model was not trained to do without what frames inherit.
    """
    generator = Generator.load(settings.model)
    if not generator.model.config.skip:
        raise ValueError(
            f"{settings.model} was not trained to do without what frames inherit; name a model "
            "that was (fv train EXPERIMENT --skip ..)"
        )
    clips = _clips(generator, settings.source)
    quality = _quality(generator, clips)
    times = {
        rows: _times(generator, clips[:rows], settings.repeats) for rows in (1, settings.batch)
    }
    values = {"quality": quality, "milliseconds": times, "clips": len(clips)}
    record("skip", settings, values, "\n".join([_quality_table(quality), _time_table(times)]))


def _clips(generator: Generator, source: str) -> list[_Clip]:
    config, entries = generator.model.config, open_source(source)
    fps = config.key_frame_fps * config.key_frame_stride
    count = (config.key_frames - 1) * config.key_frame_stride + 1
    clips = []
    for entry in tqdm(entries, desc="reading", unit="clip"):
        reader = entry.open()
        video = reader.frames(frame_numbers(reader, fps, count=count).tolist())
        clips.append(_Clip(entry.text, video, generator.model.frames.encode(video)))
    return clips


def _plan(generator: Generator, clips: list[_Clip], options: Options, text: bool) -> Plan:
    """All clips in one batch."""
    stride = generator.model.config.key_frame_stride
    plans = [
        plan_interpolation(
            generator.model, clip.video[::stride], prompt=clip.text if text else "", seed=seed,
            options=options,
        )
        for seed, clip in enumerate(clips)
    ]  # fmt: skip
    return dataclasses.replace(plans[0], requests=tuple(plan.requests[0] for plan in plans))


def _fill(generator: Generator, plan: Plan, clips: list[_Clip]) -> tuple[list[VideoIds], Stats]:
    stride, stats = generator.model.config.key_frame_stride, Stats()
    videos = [VideoIds.of_key_frames(clip.ids[::stride]) for clip in clips]
    return interpolate(generator.engine, plan, videos, stats), stats


def _quality(generator: Generator, clips: list[_Clip]) -> list[dict[str, Any]]:
    """One row a share and way."""
    config, tokenizer, rows = generator.model.config, generator.model.frames, []
    step = config.key_frame_stride // frames_a_gap(inserted(generator.model, Options()))
    for share in _SHARES:
        for skip in (True, False):
            for text in (True, False):
                options = Options(inherit=share, skip=skip)
                scores, wrong, copied, made = [], 0, 0, 0
                for clip in tqdm(clips, desc=f"inherit {share:g}"):
                    plan = _plan(generator, [clip], options, text)
                    (filled,), _ = _fill(generator, plan, [clip])
                    new, true = ~filled.key_frame, clip.ids[::step]
                    pixels = tokenizer.decode(filled.ids[new])
                    scores.append(psnr_per_frame(clip.video[::step][new], pixels).mean())
                    wrong += int((filled.ids != true)[filled.inherited].sum())
                    copied += int(filled.inherited.sum())
                    made += int(new.sum())
                left = config.sequence.stride - (copied / made if skip else 0)
                rows.append(
                    {
                        "inherit": share, "left out": skip, "caption": text,
                        "PSNR, dB": float(np.mean(scores)), "tokens read a frame": left,
                        "share of all": left / config.sequence.stride,
                        "copied ids that are wrong": wrong / max(copied, 1),
                    }
                )  # fmt: skip
    videos, gap = [clip.video[::step] for clip in clips], config.key_frame_stride // step
    new = np.arange(len(videos[0])) % gap != 0
    blends = [psnr_per_frame(video[new], blend(video, gap)[new]).mean() for video in videos]
    rows.append({"inherit": "a linear blend instead", "PSNR, dB": float(np.mean(blends))})
    return rows


def _times(generator: Generator, clips: list[_Clip], repeats: int) -> dict[str, float]:
    """Milliseconds to fill all gaps of these clips."""

    def call(options: Options) -> Callable[[], None]:
        plan = _plan(generator, clips, options, text=True)
        return lambda: _fill(generator, plan, clips) and None

    seconds = in_turns({name: call(options) for name, options in _WAYS.items()}, repeats)
    return {name: 1e3 * value for name, value in seconds.items()}


def _quality_table(rows: list[dict[str, Any]]) -> str:
    header = list(rows[0])
    show = lambda value: f"{value:.4g}" if isinstance(value, float) else str(value)
    return markdown(header, [[show(row.get(name, "")) for name in header] for row in rows])


def _time_table(times: dict[int, dict[str, float]]) -> str:
    header = ["gaps filled", *(f"{rows} clip(s), ms" for rows in times)]
    cells = [[name, *(f"{t[name]:.1f}" for t in times.values())] for name in _WAYS]
    for name, slow, fast in (
        ("one id at a time: inherit 1 against 0, times faster", 0, 1),
        ("windows and guesses: inherit 1 against 0", 3, 4),
        ("all of it against one id at a time without inheriting", 0, 4),
    ):
        ways = list(_WAYS)
        cells.append([name, *(f"{t[ways[slow]] / t[ways[fast]]:.2f}" for t in times.values())])
    return markdown(header, cells)
