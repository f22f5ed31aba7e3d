"""PSNR and SSIM of videos, frame by frame, as the video papers' common tool computes them.

    psnr(real, fake)                                  means over all frames
    frame_scores(real, fake, {"psnr": PSNR(), "ssim": SSIM(), "lpips": lpips})    one pass, [N, T]

The tool is JunyaoHu/common_metrics_on_video_quality (5f75173). Both metrics compare a frame with
its frame and average the frames' scores, over videos and times alike:

- **PSNR** in dB, of RGB pixels with peak 1: the mean of the frames' PSNRs, not the PSNR of the
  pooled error, which reads several dB lower. A frame whose mean squared error is below 1e-10
  counts as 100 dB.
- **SSIM** (Wang et al. 2004): an 11x11 Gaussian window of sigma 1.5 without padding, K1 = 0.01,
  K2 = 0.03, range 1, variances divided by the sum of the weights; the mean over the three colour
  channels. MAGVIT's SSIM is of luma, and reads higher.

Other tools' numbers do not compare: best of 100 samples (MAGVIT, MCVD), grey frames (MCVD).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from fv_jax.metrics.batches import Batches
from fv_jax.metrics.videos import Checker, Frames, NamedClip, Videos, pairs, unit

_IDENTICAL_PSNR = 100.0  # dB
_IDENTICAL_ERROR = 1e-10  # mean squared error of pixels in [0, 1] below which it counts
_BATCH = 16


class Measure(Protocol):
    """A way to compare frames: a pytree, so that it can go into `jax.jit` as an argument.

    Attributes:
        name: for messages.
        least_size: px that both sides of a frame must have.
    """

    @property
    def name(self) -> str: ...

    @property
    def least_size(self) -> int: ...

    def scores(self, real: Array, fake: Array) -> Float[Array, " B"]:
        """Of each pair of frames, [B, Y, X, 3] of uint8 or of float32 in [0, 1]; pure."""
        ...


@struct.dataclass
class PSNR:
    """Peak signal-to-noise ratio of each frame, dB; see the module."""

    name = "psnr"
    least_size = 1

    def scores(self, real: Array, fake: Array) -> Float[Array, " B"]:
        """As `Measure.scores`."""
        squares = jnp.square(unit(real) - unit(fake))
        # Row by row first, and the compiler must not join the two: a float32 sum over a whole
        # large frame would lose digits.
        rows = jax.lax.optimization_barrier(jnp.mean(squares, axis=(-2, -1)))
        error = jnp.mean(rows, axis=-1)
        noisy = -10 * jnp.log10(jnp.maximum(error, _IDENTICAL_ERROR))
        return jnp.where(error < _IDENTICAL_ERROR, _IDENTICAL_PSNR, noisy)


@struct.dataclass
class SSIM:
    """Structural similarity of each frame, in [-1, 1]; see the module. dm-pix's defaults."""

    name = "ssim"
    least_size = 11

    def scores(self, real: Array, fake: Array) -> Float[Array, " B"]:
        """As `Measure.scores`."""
        return jnp.asarray(dm_pix.ssim(unit(real), unit(fake)))


class FrameScores:
    """Scores of every frame of pairs of clips that are added one after the other.

    Args:
        measures: by the name under which `result` gives their scores.
        batch: frames on each device at a time.
        devices: all of this process by default.

    Raises:
        ValueError: a batch below 1, or no measure.
    """

    def __init__(
        self,
        measures: Mapping[str, Any],
        *,
        batch: int = _BATCH,
        devices: Sequence[jax.Device] | None = None,
    ):
        if not measures:
            raise ValueError("frame scores need at least one measure, got none")
        wants_most = max(measures.values(), key=lambda measure: measure.least_size)
        self._check = Checker(least_size=wants_most.least_size, purpose=wants_most.name)
        self._check_other = Checker(like=self._check)
        self._scores: dict[str, list[np.ndarray]] = {name: [] for name in measures}
        self._frames = 0
        state = dict(measures)
        self._batches = Batches(_all_scores, state, self._take, size=batch, devices=devices)

    def add(self, real: NamedClip, fake: NamedClip) -> None:
        """Compare two clips, frame by frame.

        Raises:
            ValueError: as `Checker`, by the clip's name.
        """
        a, b = self._check(real).frames, self._check_other(fake).frames
        self._frames = len(a)
        for pair in zip(a, b):
            self._batches.add(*pair)

    def result(self) -> dict[str, Float[np.ndarray, "N T"]]:
        """Every measure's scores, float32 [clips, frames]; call it once, at the end.

        Raises:
            ValueError: no clip was added.
        """
        if not self._frames:
            raise ValueError("frame scores need at least one pair of clips, got none")
        self._batches.finish()
        return {
            name: np.concatenate(parts).reshape(-1, self._frames)
            for name, parts in self._scores.items()
        }

    def _take(self, scores: dict[str, np.ndarray]) -> None:
        for name, values in scores.items():
            self._scores[name].append(values)


def frame_scores(
    real: Videos,
    fake: Videos,
    measures: Mapping[str, Any],
    *,
    batch: int = _BATCH,
    devices: Sequence[jax.Device] | None = None,
) -> dict[str, Float[np.ndarray, "N T"]]:
    """Every measure's score of every frame, in one pass over both sets.

    Args:
        real: clips [T, Y, X, 3] of uint8 or floats in [0, 1], one after the other (`videos.py`).
        fake: as many, of the same shape.
        measures: a `Measure` by each name that the result shall have.
        batch: frames on each device at a time.
        devices: all of this process by default.

    Raises:
        ValueError: other numbers of clips or none; clips that differ in length or size; frames
            too small; pixels that are neither uint8 nor in [0, 1]. It names the clip.
    """
    scores = FrameScores(measures, batch=batch, devices=devices)
    for a, b in pairs(real, fake):
        scores.add(a, b)
    return scores.result()


def psnr(real: Videos, fake: Videos, batch: int = _BATCH) -> float:
    """Mean peak signal-to-noise ratio over all frames, dB. Identical frames count as 100 dB.

    Args:
        real: uint8 [N, T, Y, X, 3], or any iterable of clips (`videos.py`).
        fake: as many, of the same shape.
        batch: frames on each device at a time.

    Raises:
        ValueError: as `frame_scores`.
    """
    return _mean(frame_scores(real, fake, {"psnr": PSNR()}, batch=batch)["psnr"])


def ssim(real: Videos, fake: Videos, batch: int = _BATCH) -> float:
    """Mean structural similarity over all frames, in [-1, 1]; frames of at least 11x11 px.

    Args:
        real: uint8 [N, T, Y, X, 3], or any iterable of clips (`videos.py`).
        fake: as many, of the same shape.
        batch: frames on each device at a time.

    Raises:
        ValueError: as `frame_scores`.
    """
    return _mean(frame_scores(real, fake, {"ssim": SSIM()}, batch=batch)["ssim"])


def psnr_per_frame(real: Frames, fake: Frames) -> Float[np.ndarray, "*n"]:
    """PSNR of each frame, dB; a single image is a frame.

    Raises:
        ValueError: as `frame_scores`.
    """
    return per_frame(PSNR(), real, fake)


def ssim_per_frame(real: Frames, fake: Frames) -> Float[np.ndarray, "*n"]:
    """SSIM of each frame; a single image is a frame.

    Raises:
        ValueError: as `frame_scores`.
    """
    return per_frame(SSIM(), real, fake)


def per_frame(
    measure: Any,
    real: np.ndarray,
    fake: np.ndarray,
    batch: int = _BATCH,
    devices: Sequence[jax.Device] | None = None,
) -> Float[np.ndarray, "*n"]:
    """A measure's score of each frame of two arrays [..., Y, X, 3].

    Raises:
        ValueError: as `frame_scores`.
    """
    if real.shape != fake.shape:
        raise ValueError(f"videos must have the same shape, got {real.shape} and {fake.shape}")
    if real.ndim < 3 or real.shape[-1] != 3 or not real.size:
        raise ValueError(f"frames must be [..., Y, X, 3], with a frame, got {real.shape}")
    one, other = (x.reshape(1, -1, *x.shape[-3:]) for x in (real, fake))
    scores = frame_scores(one, other, {"": measure}, batch=batch, devices=devices)[""]
    return scores.reshape(real.shape[:-3])


@jax.jit
def _all_scores(measures: dict[str, Any], real: Array, fake: Array) -> dict[str, Array]:
    return {name: measure.scores(real, fake) for name, measure in measures.items()}


def _mean(scores: np.ndarray) -> float:
    return float(scores.mean(dtype=np.float64))
