"""Clips as files and pixels: readers, frames of any rate and size, writers, pictures of clips."""

from etils import epy

with epy.lazy_api_imports(globals()):
    from fv_jax.media.opening import open_clip

__all__ = ["open_clip"]
