"""SSIM: the structural similarity of frames, in [-1, 1] (Wang et al. 2004).

An 11x11 Gaussian window of sigma 1.5 without padding, K1 = 0.01, K2 = 0.03, range 1, variances
divided by the sum of the weights; the mean over the three color channels
(JunyaoHu/common_metrics_on_video_quality, 5f75173). MAGVIT's SSIM is of luma, and reads higher.
"""

from typing import Any

import dm_pix
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, UInt8

from fv_jax.metrics.frame_scores import BATCH, FrameMetric, mean_score
from fv_jax.metrics.interface import Clips, Weights
from fv_jax.metrics.videos import Videos, unit

_LUMA = (0.2989, 0.587, 0.114)


@struct.dataclass
class SSIM:
    """Structural similarity of each frame, in [-1, 1]; see the module. dm-pix's defaults."""

    name: str = struct.field(pytree_node=False, default="ssim")
    least_size: int = struct.field(pytree_node=False, default=11)

    def scores(self, real: Array, fake: Array) -> Float[Array, " B"]:
        """As `Measure.scores`."""
        return jnp.asarray(dm_pix.ssim(unit(real), unit(fake)))


class SSIMMetric(FrameMetric):
    """SSIM as `fv evaluate` has it: `rules.ssim_colour` is "channels" or "luma"."""

    label, higher_is_better, digits = "SSIM", True, ".3f"

    def __init__(self, rules: Any, weights: Weights):
        self.measure = SSIM()
        self.fingerprint = f"ssim 1 {rules.ssim_colour}"
        self._luma = rules.ssim_colour == "luma"

    def __call__(self, real: Clips, fake: Clips) -> Float[np.ndarray, " N"]:
        if self._luma:
            real, fake = _gray(real), _gray(fake)
        return super().__call__(real, fake)


def ssim(real: Videos, fake: Videos, batch: int = BATCH) -> float:
    """Mean structural similarity over all frames, in [-1, 1]; frames of at least 11x11 px.

    Args:
        real: uint8 [N, F, Y, X, 3], or any iterable of clips (`videos.py`).
        fake: as many, of the same shape.
        batch: frames on each device at a time.

    Raises:
        ValueError: as `frame_scores`.
    """
    return mean_score(SSIM(), real, fake, batch)


def _gray(frames: UInt8[np.ndarray, "*b 3"]) -> UInt8[np.ndarray, "*b 3"]:
    """Frames in 8-bit gray, three times: the mean over channels is then that of the gray."""
    gray = np.round(frames @ np.asarray(_LUMA)).clip(0, 255).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=-1)
