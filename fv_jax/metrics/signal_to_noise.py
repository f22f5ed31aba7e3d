"""PSNR: the peak signal-to-noise ratio of frames, dB.

Pixels count as RGB with peak 1. A video's number is the mean of its frames' PSNRs, not the PSNR of
the pooled error, which reads several dB lower. A frame whose mean squared error is below 1e-10
counts as 100 dB (JunyaoHu/common_metrics_on_video_quality, 5f75173).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from fv_jax.metrics.frame_scores import BATCH, FrameMetric, mean_score, per_frame
from fv_jax.metrics.interface import Weights
from fv_jax.metrics.videos import AnyFrames, Videos, unit

_IDENTICAL_PSNR = 100.0  # dB
_IDENTICAL_ERROR = 1e-10  # mean squared error of pixels in [0, 1] below which it counts


@struct.dataclass
class PSNR:
    """Peak signal-to-noise ratio of each frame, dB; see the module."""

    name: str = struct.field(pytree_node=False, default="psnr")
    least_size: int = struct.field(pytree_node=False, default=1)

    def scores(self, real: Array, fake: Array) -> Float[Array, " B"]:
        """As `Measure.scores`."""
        squares = jnp.square(unit(real) - unit(fake))
        # Row by row first, and the compiler must not join the two: a float32 sum over a whole
        # large frame would lose digits.
        rows = jax.lax.optimization_barrier(jnp.mean(squares, axis=(-2, -1)))
        error = jnp.mean(rows, axis=-1)
        noisy = -10 * jnp.log10(jnp.maximum(error, _IDENTICAL_ERROR))
        return jnp.where(error < _IDENTICAL_ERROR, _IDENTICAL_PSNR, noisy)


class PSNRMetric(FrameMetric):
    """PSNR as `fv evaluate` has it."""

    label, unit, higher_is_better, digits = "PSNR", "dB", True, ".2f"
    fingerprint = "psnr 1"

    def __init__(self, rules: Any, weights: Weights):
        self.measure = PSNR()


def psnr(real: Videos, fake: Videos, batch: int = BATCH) -> float:
    """Mean peak signal-to-noise ratio over all frames, dB. Identical frames count as 100 dB.

    Args:
        real: uint8 [N, F, Y, X, 3], or any iterable of clips (`videos.py`).
        fake: as many, of the same shape.
        batch: frames on each device at a time.

    Raises:
        ValueError: as `frame_scores`.
    """
    return mean_score(PSNR(), real, fake, batch)


def decibels(error: float) -> float:
    """PSNR of a mean squared error of uint8 pixels, dB; over many frames that is the pooled one."""
    return float(-10 * np.log10(max(error / 255**2, _IDENTICAL_ERROR)))


def psnr_per_frame(real: AnyFrames, fake: AnyFrames) -> Float[np.ndarray, "*b"]:
    """PSNR of each frame, dB; a single image is a frame.

    Raises:
        ValueError: as `frame_scores`.
    """
    return per_frame(PSNR(), real, fake)
