"""Do the videos show what their sentences say?

200 prompts spread over the trained captions and all captions of the three held-out
(colour, shape) pairs, with seeds from 10,000 up (training's is 0). Classical vision reads size,
colour, shape and direction off the pixels (`shapes/adherence.py`); a video counts when
all four are right. Beside it: how far the object strays from uniform straight motion, and what
the same reading says of real clips that only went through the tokenizer: the ceiling.

shapes-FVD (`shapes/distance.py`, no FVD of any paper) compares each set with 1,024 real clips of
the same pairs; in brackets what as many other real ones get. It depends on their number, so sets
of different sizes cannot be compared with each other.

    cost   80 s of CPU time
"""

import dataclasses
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fv_jax.batching import filled
from fv_jax.config.model import Options
from fv_jax.generation.generator import Generator
from fv_jax.media.clip import Clip
from fv_jax.reporting.results import markdown, record
from fv_jax.shapes import scenes
from fv_jax.shapes.adherence import agreement, off_line, read
from fv_jax.shapes.distance import RealClips
from fv_jax.shapes.features import FeatureExtractor

_ATTRIBUTES = ("size", "colour", "shape", "direction", "all")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to sample, and where to write the result."""

    model: str = "shapes"
    """A shipped model's name, or a model folder."""
    prompts: int = 200
    """Prompts of trained pairs."""
    held_out: int = 96
    """Prompts of held-out pairs (96 is all)."""
    seed: int = 10_000
    """Seed of the first prompt."""
    batch_size: int = 16
    """Prompts sampled at a time."""
    sampling: Options = Options()
    """How to sample."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


def run(settings: Settings) -> None:
    """Sample, read, record."""
    generator, extractor = Generator.load(settings.model), FeatureExtractor.load()
    real = {split: RealClips(extractor, split) for split in ("test", "heldout")}
    groups = {
        "trained pairs": _spread(scenes.all_captions(held_out=False), settings.prompts),
        "held-out pairs": _spread(scenes.all_captions(held_out=True), settings.held_out),
    }
    values = {"model": settings.model, "options": dataclasses.asdict(settings.sampling)}
    rows = []
    seed = settings.seed
    for name, captions in groups.items():
        clips = _generate(generator, captions, seed, settings)
        seed += len(captions)
        scores, failures = _score(clips)
        scores |= _distance(clips, real["heldout" if name.startswith("held") else "test"])
        values[name] = {**scores, "videos": len(clips), "failures": failures}
        rows.append([f"{name} ({len(clips)})", *_cells(scores)])
    for split, name in (("test", "trained pairs"), ("heldout", "held-out pairs")):
        clips = [_through_tokenizer(generator, scenes.clip(split, i)) for i in range(100)]
        scores, _ = _score(clips)
        scores |= _distance(clips, real[split])
        values[f"ceiling, {name}"] = scores
        rows.append([f"ceiling: real clips, {name} (100)", *_cells(scores)])
    header = ["videos", *_ATTRIBUTES, "off line, key frames, px", "off line, inserted, px"]
    header.append("shapes-FVD (of real clips)")
    record("shapes-adherence", settings, values, markdown(header, rows))


def _spread(captions: list[str], count: int) -> list[str]:
    """`count` captions in an order that visits the whole grammar evenly."""
    order = np.random.default_rng(0).permutation(len(captions))
    return [captions[order[i % len(captions)]] for i in range(count)]


def _generate(generator, captions, seed, settings) -> list[Clip]:
    clips: list[Clip] = []
    size = settings.batch_size
    for start in tqdm(range(0, len(captions), size), unit="batch"):
        part = captions[start : start + size]
        padded = filled(part, size)
        made = generator.generate(padded, seed=seed + start, options=settings.sampling)
        clips += made[: len(part)]
    return clips


def _through_tokenizer(generator: Generator, clip: scenes.ShapeClip) -> Clip:
    ids = generator.model.frames.encode(scenes.render(clip))
    key_frame = np.arange(len(ids)) % generator.model.config.key_frame_stride == 0
    frames = generator.model.frames.decode(ids)
    return Clip(frames, ids, key_frame, np.zeros(ids.shape, bool), clip.caption, 0, scenes.FPS, {})


def _score(clips: list[Clip]) -> tuple[dict[str, float], list[str]]:
    right, key, inserted, failures = [], [], [], []
    for clip in clips:
        reading = read(clip.frames)
        verdict = agreement(reading, clip.prompt)
        right.append([verdict[name] for name in _ATTRIBUTES])
        if not verdict["all"]:
            seen = f"{reading.size} {reading.colour} {reading.shape} {reading.direction}"
            failures.append(f"seed {clip.seed}: {clip.prompt}: read {seen}")
        if np.isfinite(reading.centroids).all():
            both = off_line(reading.centroids, clip.key_frame)
            key.append(both[0])
            inserted.append(both[1])
    scores = dict(zip(_ATTRIBUTES, (float(x) for x in np.mean(right, axis=0))))
    scores |= {"off_line_key_frames_px": float(np.mean(key))}
    return scores | {"off_line_inserted_px": float(np.mean(inserted))}, failures


def _distance(clips: list[Clip], real: RealClips) -> dict[str, float]:
    """shapes-FVD of the clips, and the mean of as many other real ones."""
    return {
        "shapes_fvd": real.distance(np.stack([clip.frames for clip in clips])),
        "shapes_fvd_floor": float(np.mean(real.floor(len(clips)))),
    }


def _cells(scores: dict[str, float]) -> list[str]:
    shares = [f"{scores[name]:.1%}" for name in _ATTRIBUTES]
    pixels = ("off_line_key_frames_px", "off_line_inserted_px")
    distance = f"{scores['shapes_fvd']:.2f} ({scores['shapes_fvd_floor']:.2f})"
    return [*shares, *(f"{scores[name]:.2f}" for name in pixels), distance]
