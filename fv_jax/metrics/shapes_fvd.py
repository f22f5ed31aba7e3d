"""shapes-FVD: how far generated `shapes` clips are from real ones, as sets.

The Frechet distance of FVD (arXiv:1812.01717) between features of a small network that knows
`shapes` and nothing else (`shapes_features.py`). **It is not FVD** and cannot be compared with
any FVD of any paper: another network, 64 features, another scale. What a number means, and what
it cannot see, `fv bench shapes-fvd` measures.

Sets are compared, not clips with their captions: clips that show something else than they were
asked for cost nothing as long as all of them together look like `shapes`.
"""

import warnings

import numpy as np
from jaxtyping import Float, UInt8

from fv_jax.data import shapes
from fv_jax.metrics.frechet import frechet_distance
from fv_jax.metrics.shapes_features import FEATURES, FeatureExtractor

LEAST_CLIPS = 2 * FEATURES  # below, the distance of two sets is mostly chance


def shapes_fvd(
    real: UInt8[np.ndarray, "N ..."],
    fake: UInt8[np.ndarray, "K ..."],
    extractor: FeatureExtractor | None = None,
) -> float:
    """The distance between two sets of clips of the same length.

    It shrinks with the number of clips, so only numbers of as many clips can be compared.

    Args:
        real, fake: [N, M, 64, 64, 3], at least 2 clips each; fewer than 128 give a warning.
        extractor: None for the shipped network.

    Raises:
        ValueError: clips of different lengths, or not 64x64 px.
    """
    if real.shape[1:] != fake.shape[1:]:
        raise ValueError(
            f"clips must have the same length and size, got {real.shape[1:]} and {fake.shape[1:]}"
        )
    fewest = min(len(real), len(fake))
    if fewest < LEAST_CLIPS:
        warnings.warn(
            f"shapes-FVD of {fewest} clips is mostly chance; give {LEAST_CLIPS} or more",
            stacklevel=2,
        )
    extractor = extractor or FeatureExtractor.load()
    return frechet_distance(extractor(real), extractor(fake))


def real_features(
    count: int, extractor: FeatureExtractor, *, first: int = 0, split: str = "test"
) -> Float[np.ndarray, "N F"]:
    """Features of rendered clips `first`, `first` + 1, .. of a split, a few at a time."""
    parts = []
    for start in range(first, first + count, 64):
        numbers = range(start, min(start + 64, first + count))
        parts.append(extractor(np.stack([shapes.render(shapes.clip(split, i)) for i in numbers])))
    return np.concatenate(parts)
