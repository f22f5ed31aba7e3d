"""Files that are never half-written, and folders that one process at a time works in."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` (same suffix) that takes its place if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's files are private
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def only_process_in(folder: Path) -> Iterator[None]:
    """Hold a folder's lock for the block; the lock goes when the process does, however it ends.

    Raises:
        ValueError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"another process works in {folder}; wait for it, stop it, or use another folder"
            ) from error
        yield


def user_cache() -> Path:
    """The folder for what can be made again: below XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fv_jax"


def read_text(path: Path) -> str:
    """A UTF-8 text file, with or without a byte-order mark, its lines ending in \\n.

    Raises:
        ValueError: it is in another encoding.
    """
    data = path.read_bytes()
    first, second = data[0:4:2], data[1:4:2]  # of each of the first two letters
    halves = second and any(first) != any(second) and (all(first) or all(second))
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or halves:
        raise ValueError(f"{path} is UTF-16 text; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text file") from error
    if "\0" in text[:4]:
        raise ValueError(f"{path} is no text file")
    return text


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
