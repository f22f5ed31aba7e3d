"""Numbers that say how close two videos are, or two sets of them."""

from typing import TYPE_CHECKING

from fv_jax.lazy import lazy

if TYPE_CHECKING:
    from fv_jax.metrics.frame_quality import psnr, ssim
    from fv_jax.metrics.frechet import frechet_distance
    from fv_jax.metrics.frechet_video_distance import fvd
    from fv_jax.metrics.i3d import I3D
    from fv_jax.metrics.lpips import LPIPS

__all__ = ["I3D", "LPIPS", "frechet_distance", "fvd", "psnr", "ssim"]

_HOMES = {
    "psnr": "frame_quality",
    "ssim": "frame_quality",
    "LPIPS": "lpips",
    "I3D": "i3d",
    "frechet_distance": "frechet",
    "fvd": "frechet_video_distance",  # a module `fvd` would hide the function
}
__getattr__ = lazy(__name__, _HOMES)
