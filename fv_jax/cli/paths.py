"""Files that a user names: where to write, and what is to be read as a video."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from fv_jax.cli.parsing import is_folder
from fv_jax.media.opening import open_clip
from fv_jax.media.readers import ClipError, Reader


def check_writable(path: Path, *, inputs: Iterable[Path | None] = (), flag: str = "--out") -> None:
    """Fail now rather than after minutes of sampling; nothing is made.

    Args:
        path: of the file to be written.
        inputs: files and folders that are read.
        flag: that names the path.

    Raises:
        OSError: the path is a folder, or no file can be written there.
        ValueError: it is an input, or a file of an input's folder, by whatever name.
    """
    if is_folder(path):
        raise IsADirectoryError(f"{flag} {str(path)!r} is a folder; give a file name")
    for read in inputs:
        if read is not None and _is_part_of(path, read):
            raise ValueError(
                f"{flag} {str(path)!r} is what is read ({str(read)!r}); choose another {flag}"
            )
    home = path.parent
    while not home.exists() and home != home.parent:
        home = home.parent
    if not home.is_dir():
        raise NotADirectoryError(f"{str(home)!r} is no folder; choose another {flag}")
    if not os.access(home, os.W_OK):
        raise PermissionError(f"cannot write in {str(home)!r}; choose another {flag}")


def _is_part_of(path: Path, read: Path) -> bool:
    """Whether a file is another one, or lies in a folder: links and hard links are the same."""
    if not path.exists() or not read.exists():
        return False
    if not read.is_dir():
        return os.path.samefile(path, read)
    return any(entry.is_file() and os.path.samefile(path, entry) for entry in read.iterdir())


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


def tell(notes: Iterable[str], path: Path) -> None:
    """Say once a file what a person should know of how it is read or written."""
    for note in dict.fromkeys(notes):
        print(f"fv: {path}: {note}", file=sys.stderr)
