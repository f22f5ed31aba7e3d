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

import jax
import numpy as np

from fv_jax.metrics.frechet import Moments, frechet
from fv_jax.metrics.i3d import I3D, Features
from fv_jax.metrics.videos import Checker, NamedClip, Videos, named

_ROWS = 512  # features gathered before they are merged: a merge costs as much as that many


class FeatureMoments:
    """Mean and covariance of the logits of clips that are added one after the other.

    Args:
        i3d, style, batch, devices, like: as `i3d.Features`.

    Attributes:
        check: of these clips' shape, to give as `like` for the set that is compared.
    """

    def __init__(
        self,
        i3d: I3D,
        *,
        style: str = "styleganv",
        batch: int = 8,
        devices: Sequence[jax.Device] | None = None,
        like: Checker | None = None,
    ):
        self._features = Features(
            i3d, self._take, style=style, batch=batch, devices=devices, like=like
        )
        self.check = self._features.check
        self._moments: Moments | None = None
        self._waiting: list[np.ndarray] = []

    def add(self, clip: NamedClip) -> None:
        """A clip [T, Y, X, 3].

        Raises:
            ValueError: as `i3d.Features.add`.
        """
        self._features.add(clip)

    def result(self) -> Moments:
        """Of all clips; call it once, at the end.

        Raises:
            ValueError: there were none, or a logit is not finite.
        """
        self._features.finish()
        self._merge()
        if self._moments is None:
            raise ValueError("FVD needs at least one clip in each set, got none")
        return self._moments

    def _take(self, features: np.ndarray) -> None:
        self._waiting.append(features)
        if sum(map(len, self._waiting)) >= _ROWS:
            self._merge()

    def _merge(self) -> None:
        if self._waiting:
            new = Moments.of(np.concatenate(self._waiting), "logits")
            self._moments = self._moments.merged(new) if self._moments else new
            self._waiting = []


def fvd(
    real: Videos,
    fake: Videos,
    i3d: I3D,
    style: str = "styleganv",
    *,
    ddof: int = 1,
    batch: int = 8,
    devices: Sequence[jax.Device] | None = None,
) -> float:
    """Fréchet video distance of two sets, >= 0; see the module for what is in the number.

    Args:
        real: uint8 [N, T, Y, X, 3], or any iterable of clips (`videos.py`), T >= 9.
        fake: likewise, of the same T, Y and X; there may be more or fewer.
        i3d: the network with its weights.
        style: "styleganv" or "videogpt", which differ for float pixels only (`i3d.py`).
        ddof: covariances divide by N - ddof; 0 for StyleGAN-V's and cd-fvd's numbers.
        batch: clips on each device at a time.
        devices: all of this process by default.

    Raises:
        ValueError: an empty set, clips of unequal length or size, fewer than 9 frames (the common
            tool wants 10), pixels that are neither uint8 nor floats in [0, 1]. It names the clip.
    """
    sets: list[Moments] = []
    like = None
    for videos, what in ((real, "real"), (fake, "fake")):
        moments = FeatureMoments(i3d, style=style, batch=batch, devices=devices, like=like)
        for clip in named(videos, what):
            moments.add(clip)
        sets.append(moments.result())
        like = moments.check
    return frechet(*sets, ddof=ddof)
