"""What a trained variant is judged by.

loss        nats per id on unseen clips, both tasks as in training
adherence   share of videos that show what their caption says (`metrics/shapes_adherence.py`)
order       share of pairs of frames whose objects lie in the order of time along the asked
            direction: of key frames, and of the frames of each gap; 0.5 is chance
fvd         shapes-FVD of the videos against as many real clips
"""

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from experiments.claims.transformer import OPTIONS
from fv_jax.data import shapes
from fv_jax.generate import Clip, Generator
from fv_jax.metrics.frechet import frechet_distance
from fv_jax.metrics.shapes_adherence import agreement, read
from fv_jax.metrics.shapes_features import FeatureExtractor
from fv_jax.metrics.shapes_fvd import real_features

_SEED = 20_000  # of the first video
_ATTRIBUTES = ("size", "colour", "shape", "direction", "all")


def videos(generator: Generator, count: int, batch_size: int = 16) -> list[Clip]:
    """Videos of captions that visit the grammar evenly."""
    captions = shapes.all_captions(held_out=False)
    order = np.random.default_rng(0).permutation(len(captions))
    chosen = [captions[order[i % len(order)]] for i in range(count)]
    made: list[Clip] = []
    for start in range(0, count, batch_size):
        part = chosen[start : start + batch_size]
        padded = part + part[-1:] * (batch_size - len(part))
        clips = generator.generate(padded, seed=_SEED + start, options=OPTIONS)
        made += clips[: len(part)]
    return made


def score(clips: Sequence[Clip], extractor: FeatureExtractor) -> dict[str, Any]:
    """All of the above but the loss."""
    right, of_keys, of_gaps = [], [], []
    for clip in clips:
        reading = read(clip.frames)
        verdict = agreement(reading, clip.prompt)
        right.append([verdict[name] for name in _ATTRIBUTES])
        along = reading.centroids @ shapes.DIRECTIONS[clip.prompt.split()[5]]
        keys = np.flatnonzero(clip.key_frame)
        of_keys.append(in_order(along[keys]))
        gaps = [along[a : b + 1] for a, b in pairwise(keys)]
        of_gaps.append(np.mean([in_order(gap) for gap in gaps]))
    real = real_features(len(clips), extractor)
    made = extractor(np.stack([clip.frames for clip in clips]))
    return {
        **dict(zip(_ATTRIBUTES, map(float, np.mean(right, axis=0)))),
        "order of key frames": float(np.mean(of_keys)),
        "order within gaps": float(np.mean(of_gaps)),
        "shapes-FVD": frechet_distance(real, made),
        "videos": len(clips),
    }


def in_order(along: np.ndarray) -> float:
    """Share of pairs that go forwards; standing still counts half, no object not at all."""
    pairs = [(along[i], along[j]) for i, j in combinations(range(len(along)), 2)]
    return float(np.mean([0.0 if np.isnan(a + b) else (np.sign(b - a) + 1) / 2 for a, b in pairs]))


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation of the seeds."""
    deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{deviation}"
