"""Numbers that say how close two videos are, or two sets of them."""

from etils import epy

with epy.lazy_api_imports(globals()):
    from fv_jax.metrics.frame_quality import psnr, ssim
    from fv_jax.metrics.frechet import frechet_distance
    from fv_jax.metrics.frechet_video_distance import fvd
    from fv_jax.metrics.i3d import I3D
    from fv_jax.metrics.lpips import LPIPS

__all__ = ["I3D", "LPIPS", "frechet_distance", "fvd", "psnr", "ssim"]
