"""FVD: the Fréchet distance between the I3D logits of two sets of videos (arXiv:1812.01717).

    fvd(real, fake, I3D.load("i3d.safetensors"))

The conventions are those of `i3d.py` (resizing, range, logits, batch norm's epsilon) and of
`frechet.py` (covariances divide by N - 1; exact, in float64). They are in the name of a number as
much as "FVD" is, and so are these, which this function leaves to the caller:

- how many videos: FVD falls as N grows. 256 of BAIR, 2,048 or 10,000 of UCF-101 and 50,000 of
  Kinetics-600 are usual, never compared with each other. No paper reports it for fewer than 256: of
  a few videos it tests the program, not a model. Up to 400, the number of features, covariances are
  singular and FVD is biased upwards;
- how many frames: 16 in nearly all papers, the given ones included;
- the resolution at which videos are given: a number at 64x64 px is not one at 128x128.

The FVD of lengths 10, 11, .. that the common tool lists is of the first so many frames each, for
`fvd([clip[:10] for clip in real], ..)`; the one wanted is of all frames.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from fv_jax.metrics.frechet import frechet_distance
from fv_jax.metrics.i3d import BATCH, I3D
from fv_jax.metrics.i3d_network import CLASSES, LEAST_FRAMES
from fv_jax.metrics.interface import Clips, SetMetric, Weights
from fv_jax.metrics.videos import Videos, named


class FVDMetric(SetMetric):
    """FVD as `fv evaluate` has it: with `rules.i3d_epsilon` and `rules.i3d_resize`."""

    label, higher_is_better = "FVD", False
    weights = (("i3d_weights", "FV_I3D_WEIGHTS"),)
    least_frames, width = LEAST_FRAMES, CLASSES

    def __init__(self, rules: Any, weights: Weights):
        self._i3d, self.record = I3D.published(
            weights.files["i3d_weights"],
            bn_epsilon=rules.i3d_epsilon,
            resize=rules.i3d_resize,
            allow_unverified=weights.allow_unverified,
        )
        settings = f"epsilon={rules.i3d_epsilon:g} resize={rules.i3d_resize}"
        self.fingerprint = f"i3d 1 {settings} sha256:{self.record['sha256']}"

    def features(self, clips: Clips) -> Float[np.ndarray, "N C"]:
        """Logits of every clip, float64."""
        return self._i3d.features(clips).astype(np.float64)


def fvd(
    real: Videos,
    fake: Videos,
    i3d: I3D,
    *,
    batch: int = BATCH,
    devices: Sequence[jax.Device] | None = None,
) -> float:
    """Fréchet video distance of two sets, >= 0; see the module for what is in the number.

    Args:
        real: uint8 [N, F, Y, X, 3], or any iterable of clips (`videos.py`), F >= 9.
        fake: likewise, of the same F, Y and X; there may be more or fewer.
        i3d: the network with its weights.
        batch: clips on each device at a time.
        devices: all of this process by default.

    Raises:
        ValueError: an empty set, clips of unequal length or size, fewer than 9 frames (the common
            tool wants 10), pixels that are neither uint8 nor floats in [0, 1]. It names the clip.
    """
    sets, check = [], None
    for videos, what in ((real, "real"), (fake, "fake")):
        check = i3d.checker(like=check)
        clips = named(videos, what)
        sets.append(i3d.features(clips, batch=batch, devices=devices, check=check))
    return frechet_distance(*sets)
