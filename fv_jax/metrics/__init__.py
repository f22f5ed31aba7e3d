"""Numbers that say how close two videos are."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fv_jax.metrics.frame_quality import psnr, ssim
    from fv_jax.metrics.lpips import LPIPS

__all__ = ["LPIPS", "psnr", "ssim"]

_HOMES = {"psnr": "frame_quality", "ssim": "frame_quality", "LPIPS": "lpips"}


def __getattr__(name: str):
    # Lazily, so that a name costs the imports of its own file only.
    if name in _HOMES:
        return getattr(importlib.import_module(f"fv_jax.metrics.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'fv_jax.metrics' has no attribute {name!r}")
