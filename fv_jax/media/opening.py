"""A clip by its path, and the clips under a folder: videos, pictures, folders of pictures."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from fv_jax.media.readers import PICTURE_SUFFIXES, VIDEO_SUFFIXES, Pictures, Reader, VideoFile

PICTURE_FPS = 25.0  # of folders of pictures, which do not say it themselves


def open_clip(path: Path, *, picture_fps: float = PICTURE_FPS, least: int = 2) -> Reader:
    """The reader of a video file, a picture, or a folder of pictures in the order of their names.

    Args:
        path: of the file or folder.
        picture_fps: frames per second of pictures.
        least: frames that the clip must have.

    Raises:
        ClipError: it cannot be used.
    """
    if path.is_dir():
        return Pictures(_pictures(path), picture_fps, least=least)
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return Pictures([path], picture_fps, least=least)
    return VideoFile(path, least=least)


def find_clips(folder: Path, suffixes: Sequence[str] = VIDEO_SUFFIXES) -> list[str]:
    """Paths from the folder: files with these suffixes, and folders of pictures and no such file.

    A folder of pictures may hold other files, too, and may be `folder` itself ("."). Links are
    followed, to each place once; what is hidden is left out.
    """
    found, seen = [], set()
    for home, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(home)) in seen:  # a link to where we have been
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = [name for name in files if not name.startswith(".")]
        relative = Path(home).relative_to(folder)
        videos = [name for name in files if Path(name).suffix.lower() in suffixes]
        found += [(relative / name).as_posix() for name in videos]
        pictures = any(Path(name).suffix.lower() in PICTURE_SUFFIXES for name in files)
        if pictures and not videos and not folders:
            found.append(relative.as_posix())
    return found


def _pictures(folder: Path) -> list[Path]:
    paths = [p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES]
    shown = (p for p in paths if not p.name.startswith("."))
    return sorted(shown, key=lambda path: natural(path.name))


def natural(name: str) -> tuple[list[tuple[int, int | str]], str]:
    """Sort key that counts: frame9 comes before frame10. No two names share one."""
    parts = re.split(r"([0-9]+)", name)
    return [(i % 2, int(part) if i % 2 else part) for i, part in enumerate(parts)], name
