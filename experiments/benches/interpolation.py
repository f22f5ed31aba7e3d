"""How close are inserted frames to the true ones?

Key frames of unseen clips (frames 1, 5, 9, 13, 17) are encoded, three frames are put into every
gap, and compared with the clip's own frames, PSNR per inserted frame, with and without the
clip's caption. Two baselines on true pixels: a copy of the nearer key frame (the earlier one in
the middle) and the linear blend of both. The tokenizer's own loss is the ceiling.

Where the model was trained on the gap between the first and the last frame, too, all frames between
these two are made, level by level: the one in the middle, and then all of them.

    cost   a minute on two CPU cores
"""

import dataclasses
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fv_jax.config.model import Options
from fv_jax.generation.generator import Generator
from fv_jax.metrics.signal_to_noise import psnr_per_frame
from fv_jax.reporting.results import markdown, record
from fv_jax.shapes import scenes


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and where to write the result."""

    model: str = "shapes"
    """A shipped model's name, or a model folder."""
    clips: int = 50
    """Unseen clips of trained pairs."""
    variant: str = ""
    """What the record's name ends with, for another model than the shipped one."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


def run(settings: Settings) -> None:
    """Measure and record."""
    generator = Generator.load(settings.model)
    gap = generator.model.config.key_frame_stride
    clips = [scenes.clip("test", i) for i in range(settings.clips)]
    videos = [scenes.render(clip) for clip in clips]
    inserted = np.arange(scenes.NUM_FRAMES) % gap != 0
    rows: dict[str, list[float]] = {}
    for share in (0.0, 0.2, 0.5, 1.0):
        for with_text in (True, False):
            name = f"ours, inherit {share:g}" + ("" if with_text else ", no text")
            rows[name] = []
            for i, (clip, video) in enumerate(tqdm(list(zip(clips, videos)), desc=name)):
                made = generator.interpolate(
                    video[::gap],
                    prompt=clip.caption if with_text else "",
                    seed=i,
                    options=Options(inherit=share),
                )
                rows[name].append(_score(video, made.frames, inserted))
    tokenizer = generator.model.frames
    baselines = {
        "baseline: copy the nearer key frame": lambda v: copy(v, gap),
        "baseline: linear blend": lambda v: blend(v, gap),
        "ceiling: the true frames through the tokenizer": lambda v: tokenizer.decode(
            tokenizer.encode(v)
        ),
    }
    for name, make in baselines.items():
        rows[name] = [_score(video, make(video), inserted) for video in videos]
    span = scenes.NUM_FRAMES - 1
    if span in dict(generator.model.config.insertions):
        rows |= _levels(generator, clips, videos, span)
    mean = {name: float(np.mean(values)) for name, values in rows.items()}
    table = markdown(
        ["inserted frames of unseen clips", "PSNR, dB"],
        [[name, f"{value:.2f}"] for name, value in mean.items()],
    )
    values = {"psnr_db": mean, "clips": settings.clips, "model": settings.model}
    record("interpolation", settings, values, table, variant=settings.variant)


def _levels(generator: Generator, clips, videos, span: int) -> dict[str, list[float]]:
    """From the first and the last frame alone, by levels, and what a blend of both has."""
    config, rows = generator.model.config, {}
    parts = {f"the frame in the middle of {span}": [span // 2], f"all of {span}": [*range(1, span)]}
    for insert in ((1, 1, 1, 1), (1, 1, 3)):
        for with_text in (True, False):
            for name in parts:
                rows[_name(name, insert, with_text)] = []
            for i, (clip, video) in enumerate(tqdm(list(zip(clips, videos)), desc=f"{insert}")):
                made = generator.interpolate(
                    video[[0, span]],
                    prompt=clip.caption if with_text else "",
                    seed=i,
                    options=Options(insert=insert),
                    fps=config.key_frame_fps * config.key_frame_stride / span,
                )
                for name, frames in parts.items():
                    score = _score(video, made.frames, np.asarray(frames))
                    rows[_name(name, insert, with_text)].append(score)
    for name, frames in parts.items():
        blends = [_score(video, blend(video, span), np.asarray(frames)) for video in videos]
        rows[f"{name}: baseline: linear blend"] = blends
    return rows


def _name(part: str, insert: tuple[int, ...], with_text: bool) -> str:
    levels = ",".join(map(str, insert))
    return f"{part}: ours, insert {levels}" + ("" if with_text else ", no text")


def _score(true: np.ndarray, made: np.ndarray, inserted: np.ndarray) -> float:
    return float(psnr_per_frame(true[inserted], made[inserted]).mean())


def copy(video: np.ndarray, gap: int) -> np.ndarray:
    """Every frame replaced by its nearer key frame; the earlier one where both are as near."""
    index = np.arange(len(video))
    return video[(index + (gap - 1) // 2) // gap * gap]


def blend(video: np.ndarray, gap: int) -> np.ndarray:
    """Every frame the mean of the key frames around it, the nearer one counting more."""
    index = np.arange(len(video))
    before = index // gap * gap
    after = np.minimum(before + gap, len(video) - 1)
    weight = ((index - before) / gap)[:, None, None, None]
    return np.round(video[before] * (1 - weight) + video[after] * weight).astype(np.uint8)
