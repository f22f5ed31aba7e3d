"""A clip by its path: a video, an animation, a picture, or a folder of pictures."""

from pathlib import Path

from fv_jax.media.pictures import PICTURE_SUFFIXES, Animation, Pictures, is_animated
from fv_jax.media.readers import Reader
from fv_jax.media.video_file import VideoFile
from fv_jax.media.walk import natural

PICTURE_FPS = 25.0  # of folders of pictures, which do not say it themselves


def open_clip(path: str | Path, *, picture_fps: float = PICTURE_FPS, least: int = 2) -> Reader:
    """The reader of a video, an animation, a picture, or a folder of pictures in natural order.

    Args:
        path: the file or folder.
        picture_fps: frames per second of pictures that do not say it: folders, pages of a TIFF.
        least: frames that the clip must have.

    Raises:
        ClipError: it cannot be used.
    """
    path = Path(path)
    if path.is_dir():
        return Pictures(_pictures(path), picture_fps, least=least)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        if is_animated(path):
            return Animation(path, picture_fps, least=least)
        return Pictures([path], picture_fps, least=least)
    return VideoFile(path, least=least)


def _pictures(folder: Path) -> list[Path]:
    paths = [p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES]
    shown = (p for p in paths if not p.name.startswith(".") and not is_animated(p))
    return sorted(shown, key=lambda path: natural(path.name))
