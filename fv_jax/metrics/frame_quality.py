"""PSNR and SSIM of videos, per frame, as the video papers' common tool computes them.

Both compare frame by frame and average the frames' scores (PSNR in dB, not the pooled error;
pooling reads several dB lower). SSIM (Wang et al. 2004) has an 11x11 Gaussian window of sigma
1.5, no padding, and is the mean over the three colour channels.
"""

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

_IDENTICAL_PSNR = 100.0  # dB, where the mean squared error is below 1e-10 (of full scale 1)


def psnr(real: UInt8[np.ndarray, "N T Y X 3"], fake: UInt8[np.ndarray, "N T Y X 3"]) -> float:
    """Mean peak signal-to-noise ratio over all frames, dB. Identical frames count as 100 dB.

    Raises:
        ValueError: the two differ in shape.
    """
    return float(psnr_per_frame(real, fake).mean())


def psnr_per_frame(
    real: UInt8[np.ndarray, "*n Y X 3"], fake: UInt8[np.ndarray, "*n Y X 3"]
) -> Float[np.ndarray, "*n"]:
    """PSNR of each frame, dB."""
    _same_shape(real, fake)
    error = np.mean(((real.astype(np.float32) - fake) / 255.0) ** 2, axis=(-3, -2, -1))
    return np.where(error < 1e-10, _IDENTICAL_PSNR, -10 * np.log10(np.maximum(error, 1e-10)))


def ssim(real: UInt8[np.ndarray, "N T Y X 3"], fake: UInt8[np.ndarray, "N T Y X 3"]) -> float:
    """Mean structural similarity over all frames, in [-1, 1]; frames of at least 11x11 px.

    Raises:
        ValueError: the two differ in shape, or a frame is under 11 px.
    """
    _same_shape(real, fake)
    if min(real.shape[-3:-1]) < 11:
        raise ValueError(f"ssim needs frames of at least 11x11 px, got {real.shape[-3:-1]}")
    scores = [float(_ssim(jnp.asarray(a), jnp.asarray(b))) for a, b in zip(real, fake)]
    return float(np.mean(scores))


@jax.jit
def _ssim(real, fake):
    return jnp.mean(dm_pix.ssim(real.astype(jnp.float32) / 255, fake.astype(jnp.float32) / 255))


def _same_shape(real: np.ndarray, fake: np.ndarray) -> None:
    if real.shape != fake.shape:
        raise ValueError(f"videos must have the same shape, got {real.shape} and {fake.shape}")
