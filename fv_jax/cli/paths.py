"""Files that a user names: where to write, and what is to be read as a video."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from fv_jax.media.opening import open_clip
from fv_jax.media.readers import ClipError, Reader


def check_writable(path: Path) -> None:
    """Fail now rather than after minutes of sampling.

    Raises:
        OSError: the path is a folder, or no file can be written there.
    """
    if path.is_dir():
        raise IsADirectoryError(f"--out {str(path)!r} is a folder; give a file name")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"cannot write in {str(path.parent)!r}; choose another --out")


def open_video(path: Path, *, least: int) -> Reader:
    """The reader of a video, GIF, picture or folder of pictures of at least `least` frames.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read as a video; names it.
    """
    if not path.exists():
        raise FileNotFoundError(f"no video {str(path)!r}; give a file, or a folder of pictures")
    with naming(path):
        return open_clip(path, least=least)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say which video it is that cannot be used."""
    try:
        yield
    except ClipError as error:
        raise ValueError(f"{path} cannot be read as a video: {error}") from error
