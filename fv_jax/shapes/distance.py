"""shapes-FVD: how far generated `shapes` clips are from real ones, as sets.

    real = RealClips(FeatureExtractor.load())
    real.distance(videos), real.floor(len(videos))

The Frechet distance of FVD (arXiv:1812.01717) between features of a small network that knows
`shapes` and nothing else (`features.py`). **It is not FVD** and cannot be compared with
any FVD of any paper: another network, 64 features, another scale. What a number means, and what
it cannot see, `fv bench shapes-fvd` measures.

It falls as clips are added, so a number says little without its floor: what as many other real
clips get. Sets are compared, not clips with their captions: clips that show something else than
they were asked for cost nothing as long as all of them together look like `shapes`.
"""

import hashlib
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from fv_jax.metrics.frechet import Moments, frechet
from fv_jax.metrics.interface import Clips, SetMetric, Weights
from fv_jax.shapes import scenes
from fv_jax.shapes.features import FEATURES, LEAST_FRAMES, WEIGHTS, FeatureExtractor

_FIRST = 1_000  # the clips before are what models are asked for
_AT_A_TIME = 64


class RealClips:
    """The real clips that sets are compared with, always the same of a split.

    Args:
        extractor: of their features.
        split: of `shapes`.
        count: how many; as many of each floor's sets come after them.
    """

    def __init__(self, extractor: FeatureExtractor, split: str = "test", count: int = 1024):
        self.extractor, self.split = extractor, split
        self._next = _FIRST + count
        self._moments = Moments.of(real_features(_FIRST, count, extractor, split))

    def distance(self, videos: UInt8[np.ndarray, "N F Y X 3"]) -> float:
        """shapes-FVD of generated clips, all F = 17 frames of them.

        Raises:
            ValueError: clips of another length or size, or not uint8.
        """
        want = (scenes.NUM_FRAMES, scenes.FRAME_SIZE, scenes.FRAME_SIZE, 3)
        if videos.shape[1:] != want:
            raise ValueError(f"clips must be {want} like the real ones, got {videos.shape[1:]}")
        return frechet(self._moments, Moments.of(self.extractor(videos)))

    def floor(self, count: int, repeats: int = 5) -> tuple[float, ...]:
        """What sets of `count` other real clips get; no clip is in two of them."""
        sets = real_features(self._next, count * repeats, self.extractor, self.split)
        parts = np.split(sets, repeats)
        return tuple(frechet(self._moments, Moments.of(part)) for part in parts)


class ShapesFVDMetric(SetMetric):
    """shapes-FVD as `fv evaluate` has it: with the network that comes with the package."""

    label, higher_is_better = "shapes-FVD", False
    least_frames, width = LEAST_FRAMES, FEATURES

    def __init__(self, rules: Any, weights: Weights):
        self._extractor = FeatureExtractor.load()
        sha256 = f"sha256:{hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()}"
        self.record = {"sha256": sha256, "network": "fv_jax/assets/shapes_features"}
        self.fingerprint = f"shapes_features 1 {sha256}"

    def features(self, clips: Clips) -> Float[np.ndarray, "N C"]:
        """Features of every clip, float64."""
        return self._extractor(clips).astype(np.float64)


def real_features(
    first: int, count: int, extractor: FeatureExtractor, split: str = "test"
) -> Float[np.ndarray, "N C"]:
    """Features of rendered clips `first`, `first` + 1, .. of a split, a few at a time."""
    parts = []
    for start in range(first, first + count, _AT_A_TIME):
        numbers = range(start, min(start + _AT_A_TIME, first + count))
        parts.append(extractor(np.stack([scenes.render(scenes.clip(split, i)) for i in numbers])))
    return np.concatenate(parts)
