"""What it is worth that inherited ids cost nothing (paper section 3.3).

Key frames of unseen clips are encoded, and all gaps between them filled, level by level.

tokens    read for an inserted frame, by share inherited: header and ids, without A and B
time      to fill the gaps of one clip and of several at once, all ways in turns, compiled before,
          medians: inherit 1 against 0 one id at a time, and with the windows and guesses that
          `fv generate` takes; and fed instead of left out
quality   PSNR of inserted frames against the clip's own, by share inherited, left out and fed; with
          the clip's caption and without; and how many of the copied ids are not the true ones. Its
          mean over frames, and that of the mean squared error: where many frames are equal to the
          last bit, the second says more
which     the paper inherits stable ids at random; beside that as many in one run, row by row

Inherit "auto" is what the model's own table says.

    cost   eight minutes on two CPU cores
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from tqdm import tqdm

from experiments.benches.interpolation import blend
from experiments.timing import in_turns
from fv_jax.config.model import Options, Share
from fv_jax.data.sources.base import open_source
from fv_jax.generation import gaps
from fv_jax.generation.gaps import VideoIds
from fv_jax.generation.generator import Generator
from fv_jax.generation.interpolation import interpolate
from fv_jax.generation.plan import Plan, frames_a_gap, inserted, plan_interpolation
from fv_jax.generation.skip_mask import inheritable
from fv_jax.generation.stats import Stats
from fv_jax.media.frames import frame_numbers
from fv_jax.metrics.signal_to_noise import decibels, psnr_per_frame
from fv_jax.reporting.results import markdown, record

_SHARES: tuple[Share, ...] = (0.0, 0.2, 0.5, 1.0, "auto")
_PARTS = (0.2, 0.5)
_WAYS: dict[str, Options] = {
    "one id at a time, inherit 0": Options(inherit=0.0, window=1, drafts=False),
    "one id at a time, inherit 1": Options(inherit=1.0, window=1, drafts=False),
    "one id at a time, inherit auto": Options(inherit="auto", window=1, drafts=False),
    "one id at a time, inherit 1, fed": Options(inherit=1.0, window=1, drafts=False, skip=False),
    "windows and guesses, inherit 0": Options(inherit=0.0),
    "windows and guesses, inherit 1": Options(inherit=1.0),
    "windows and guesses, inherit auto": Options(inherit="auto"),
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
    variant: str = ""
    """A name of these settings, for the files of the result."""
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
        ValueError: the model was not trained to do without what frames inherit, or reads only what
            changes, whatever is inherited.
    """
    generator = Generator.load(settings.model)
    if generator.model.config.network.places:
        raise ValueError(
            f"{settings.model} codes frames as what changed, so it never reads what is inherited; "
            "name a model of all ids that was trained with --skip"
        )
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
    which = _which(generator, clips)
    values = {"quality": quality, "milliseconds": times, "which": which, "clips": len(clips)}
    tables = [_table(quality), _time_table(times), _table(which)]
    record("skip", settings, values, "\n".join(tables), settings.variant)


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
                pairs, wrong, copied, made = [], 0, 0, 0
                for clip in tqdm(clips, desc=f"inherit {share}"):
                    plan = _plan(generator, [clip], options, text)
                    (filled,), _ = _fill(generator, plan, [clip])
                    new, true = ~filled.key_frame, clip.ids[::step]
                    pixels = tokenizer.decode(filled.ids[new])
                    pairs.append((clip.video[::step][new], pixels))
                    wrong += int((filled.ids != true)[filled.inherited].sum())
                    copied += int(filled.inherited.sum())
                    made += int(new.sum())
                left = config.sequence.stride - (copied / made if skip else 0)
                rows.append(
                    {
                        "inherit": share, "left out": skip, "caption": text,
                        **_scores(pairs), "tokens read a frame": left,
                        "share of all": left / config.sequence.stride,
                        "copied ids that are wrong": wrong / max(copied, 1),
                    }
                )  # fmt: skip
    videos, gap = [clip.video[::step] for clip in clips], config.key_frame_stride // step
    new = np.arange(len(videos[0])) % gap != 0
    blends = [(video[new], blend(video, gap)[new]) for video in videos]
    rows.append({"inherit": "a linear blend instead", **_scores(blends)})
    return rows


def _scores(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Of real and made frames, a pair a clip."""
    errors = [np.square(real.astype(np.float32) - made).mean() for real, made in pairs]
    return {
        "PSNR, dB": float(np.mean([psnr_per_frame(*pair).mean() for pair in pairs])),
        "of the mean error, dB": decibels(float(np.mean(errors))),
    }


def _which(generator: Generator, clips: list[_Clip]) -> list[dict[str, Any]]:
    """Random stable ids beside a run of them, all clips at once: what is made, and how."""
    config, tokenizer, rows = generator.model.config, generator.model.frames, []
    step = config.key_frame_stride // frames_a_gap(inserted(generator.model, Options()))
    for share in _PARTS:
        for name, chosen in (("random", inheritable), ("a run", _run)):
            for skip in (True, False):
                options = Options(inherit=share, skip=skip, window=8)
                with mock.patch.object(gaps, "inheritable", chosen):
                    plan = _plan(generator, clips, options, text=True)
                    filled, stats = _fill(generator, plan, clips)
                scores = []
                for video, clip in zip(filled, clips):
                    pixels, new = tokenizer.decode(video.ids), ~video.key_frame
                    scores.append(psnr_per_frame(clip.video[::step][new], pixels[new]).mean())
                rows.append(
                    {
                        "inherit": share, "which": name, "left out": skip,
                        "PSNR, dB": float(np.mean(scores)),
                        "steps of 8": stats.summary(1)["steps"], "fed": stats.summary(1)["fed"],
                    }
                )  # fmt: skip
    return rows


def _run(stable: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """As `inheritable`, but one run in the order of the ids, from a random one on."""
    places, mask = np.flatnonzero(stable), np.zeros(stable.size, bool)
    if len(places):
        first = int(rng.integers(len(places)))
        mask[np.roll(places, -first)[: round(share * len(places))]] = True
    return mask.reshape(stable.shape)


def _times(generator: Generator, clips: list[_Clip], repeats: int) -> dict[str, float]:
    """Milliseconds to fill all gaps of these clips."""

    def call(options: Options) -> Callable[[], None]:
        plan = _plan(generator, clips, options, text=True)
        return lambda: _fill(generator, plan, clips) and None

    seconds = in_turns({name: call(options) for name, options in _WAYS.items()}, repeats)
    return {name: 1e3 * value for name, value in seconds.items()}


def _table(rows: list[dict[str, Any]]) -> str:
    header = list(rows[0])
    show = lambda value: f"{value:.4g}" if isinstance(value, float) else str(value)
    return markdown(header, [[show(row.get(name, "")) for name in header] for row in rows])


def _time_table(times: dict[int, dict[str, float]]) -> str:
    header = ["gaps filled", *(f"{rows} clip(s), ms" for rows in times)]
    cells = [[name, *(f"{t[name]:.1f}" for t in times.values())] for name in _WAYS]
    one, many = "one id at a time", "windows and guesses"
    for name, slow, fast in (
        (f"{one}: inherit 1 against 0, times faster", f"{one}, inherit 0", f"{one}, inherit 1"),
        (f"{one}: inherit auto against 0", f"{one}, inherit 0", f"{one}, inherit auto"),
        (f"{many}: inherit 1 against 0", f"{many}, inherit 0", f"{many}, inherit 1"),
        (f"{many}: inherit auto against 0", f"{many}, inherit 0", f"{many}, inherit auto"),
        (
            "all of it, inherit 1, against none of it",
            f"{one}, inherit 0",
            f"{many}, inherit 1",
        ),
        ("the quickest against none of it", f"{one}, inherit 0", ""),
    ):
        quickest = lambda t, fast=fast: t[fast] if fast else min(t.values())
        cells.append([name, *(f"{t[slow] / quickest(t):.2f}" for t in times.values())])
    return markdown(header, cells)
