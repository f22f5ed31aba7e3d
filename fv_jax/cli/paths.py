"""Files that a user names: where to write, and what is to be read as a video."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from fv_jax.cli.parsing import is_folder
from fv_jax.data.sources.base import parse as parse_source
from fv_jax.media.opening import open_clip
from fv_jax.media.readers import ClipError, Reader
from fv_jax.media.walk import each_folder


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
        return path.resolve() == read.resolve()
    if not read.is_dir():
        return os.path.samefile(path, read)
    files = (home / name for home, _, names in each_folder(read) for name in names)
    return any(file.is_file() and os.path.samefile(path, file) for file in files)


def place_of(source: str) -> Path | None:
    """The file or folder that a source's text names, if it names one."""
    place = parse_source(source)[1]
    return Path(place) if place else None


def check_apart(folder: Path, read: Path | None, *, flag: str) -> None:
    """See to it that a folder to be filled is no folder that is read, and in none.

    Raises:
        ValueError: it is, by whatever name.
    """
    if read and read.is_dir() and folder.resolve().is_relative_to(read.resolve()):
        raise ValueError(
            f"{flag} {str(folder)!r} lies in what is read ({str(read)!r}); choose another {flag}"
        )


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
