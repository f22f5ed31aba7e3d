"""What a trained variant is judged by.

loss        nats per id on unseen clips, both tasks as in training
adherence   share of videos that show what their caption says (`shapes/adherence.py`)
order       whether frames come one after the other, wherever the object goes, so that it is no
            second measure of the asked direction. Of key frames: share of their steps, from the
            second on, that go the way of the first. Within gaps: share of pairs of inserted frames
            that lie in their order from one key frame to the next. 0.5 is chance
shapes-FVD  of the videos against 1,024 real clips; its floor is what as many real ones get
"""

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.claims.transformer import OPTIONS
from fv_jax.batching import filled
from fv_jax.generation.generator import Generator
from fv_jax.media.clip import Clip
from fv_jax.shapes import scenes
from fv_jax.shapes.adherence import agreement, read
from fv_jax.shapes.distance import RealClips

_SEED = 20_000  # of the first video
_ATTRIBUTES = ("size", "colour", "shape", "direction", "all")


def videos(generator: Generator, count: int, batch_size: int = 16) -> list[Clip]:
    """Videos of captions that visit the grammar evenly."""
    captions = scenes.all_captions(held_out=False)
    order = np.random.default_rng(0).permutation(len(captions))
    chosen = [captions[order[i % len(order)]] for i in range(count)]
    made: list[Clip] = []
    for start in range(0, count, batch_size):
        part = chosen[start : start + batch_size]
        padded = filled(part, batch_size)
        clips = generator.generate(padded, seed=_SEED + start, options=OPTIONS)
        made += clips[: len(part)]
    return made


def score(clips: Sequence[Clip], real: RealClips) -> dict[str, Any]:
    """All of the above but the loss."""
    right, of_keys, of_gaps = [], [], []
    for clip in clips:
        reading = read(clip.frames)
        verdict = agreement(reading, clip.prompt)
        right.append([verdict[name] for name in _ATTRIBUTES])
        keys = np.flatnonzero(clip.key_frame)
        of_keys.append(keeps_its_way(reading.centroids[keys]))
        gaps = [reading.centroids[a : b + 1] for a, b in pairwise(keys)]
        of_gaps.append(np.mean([in_order(gap) for gap in gaps]))
    return {
        **dict(zip(_ATTRIBUTES, map(float, np.mean(right, axis=0)))),
        "order of key frames": float(np.mean(of_keys)),
        "order within gaps": float(np.mean(of_gaps)),
        "shapes-FVD": real.distance(np.stack([clip.frames for clip in clips])),
        "videos": len(clips),
    }


def keeps_its_way(places: Float[np.ndarray, "K 2"]) -> float:
    """Share of the steps from the second on that go the way of the first.

    A step that does not move counts half, one without an object (NaN) not at all.
    """
    steps = np.diff(places, axis=0)
    return _forwards(steps[1:] @ steps[0])


def in_order(places: Float[np.ndarray, "K 2"]) -> float:
    """Share of pairs of the frames between first and last that lie one after the other that way."""
    along = places[1:-1] @ (places[-1] - places[0])
    return _forwards(np.asarray([b - a for a, b in combinations(along, 2)]))


def _forwards(distances: np.ndarray) -> float:
    return float(np.where(np.isnan(distances), 0.0, (np.sign(distances) + 1) / 2).mean())


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation of the seeds."""
    deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{deviation}"
