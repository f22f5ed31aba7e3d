"""Numbers that say how close two videos are."""

from typing import TYPE_CHECKING

from fv_jax.lazy import lazy

if TYPE_CHECKING:
    from fv_jax.metrics.frame_quality import psnr, ssim
    from fv_jax.metrics.lpips import LPIPS

__all__ = ["LPIPS", "psnr", "ssim"]

__getattr__ = lazy(__name__, {"psnr": "frame_quality", "ssim": "frame_quality", "LPIPS": "lpips"})
