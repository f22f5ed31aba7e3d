"""Numbers that say how close two videos are, or two sets of them.

    signal_to_noise.py           psnr, PSNR
    structural_similarity.py     ssim, SSIM
    lpips.py                     LPIPS
    frechet_video_distance.py    fvd; its network is i3d.py, its distance frechet.py

Files spell out what functions here abbreviate: `fv_jax.metrics.psnr` is the function.
"""

from etils import epy

with epy.lazy_api_imports(globals()):
    from fv_jax.metrics.frechet import frechet_distance
    from fv_jax.metrics.frechet_video_distance import fvd
    from fv_jax.metrics.i3d import I3D
    from fv_jax.metrics.lpips import LPIPS
    from fv_jax.metrics.signal_to_noise import psnr
    from fv_jax.metrics.structural_similarity import ssim

__all__ = ["I3D", "LPIPS", "frechet_distance", "fvd", "psnr", "ssim"]
