"""Places in object stores, gs://BUCKET/PATH and s3://BUCKET/PATH, each by a copy in the cache.

A store renames nothing, locks nothing and changes no part of a file. So what is read from it is
fetched first, and what grows, a run's folder or tokens, grows in the copy and is carried there:

    fetch     the store -> the copy, for what has changed since it was last here
    carried   fetch, work in the copy, and carry what has changed -> the store

Of several processes that train together the first carries; each other has a copy of its own, as the
place was when they began.

For each file the version that the store names and the copy's size and time of change are kept
beside the copy. Where both sides have changed a file, the store's counts; what only the copy has,
such as a checkpoint that could not be carried, is carried the next time.

gcsfs and s3fs (the extra `cloud`) do the transport; credentials are where these look for them.
"""

import contextlib
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fv_jax.files import only_process_in, replacing, user_cache, write_text

_SCHEMES = ("gs://", "s3://")
_VERSIONS = ("generation", "ETag", "etag", "md5Hash", "LastModified", "updated")
_LAST = ("files.json", "config.json", "manifest.json")  # name or vouch for the files beside them


def is_bucket(place: str | Path) -> bool:
    """Whether a text names a place in an object store."""
    return str(place).startswith(_SCHEMES)


def local(place: str) -> str:
    """A path as it is; of a place in a store, its copy's, fetched once a process."""
    return str(_fetched(place)) if is_bucket(place) else place


def copy_of(place: str, process: int = 0) -> Path:
    """Where the copy of a place in a store lies, whether it is there or not."""
    return _copies(process) / place.replace("://", "/")


def _copies(process: int) -> Path:
    return user_cache() / (f"buckets-{process}" if process else "buckets")


def fetch(place: str) -> Path:
    """Bring the copy of a file, or of a folder with all that is in it, up to date.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: no name of a bucket, or the package for this store is not installed.
        OSError: the store cannot be reached, or refuses.
    """
    if not _Copy(place).fetch():
        raise FileNotFoundError(f"nothing is at {place}")
    return copy_of(place)


@contextlib.contextmanager
def carried(
    place: str | Path, *, process: int = 0, ready: Callable[[], object] = lambda: None
) -> Iterator["Carrier"]:
    """A folder to work in; what has changed in it is carried to its place when the block ends.

    Args:
        place: a folder, which is then itself worked in, or of a store.
        process: which one this is of several that call this together. What others than the first
            (0) change is carried nowhere.
        ready: called by all of them, to return when the first has: its place then has all that an
            earlier run could not carry.

    Raises:
        ValueError: another process of this machine works there; else as `fetch`.
        OSError: what was made could not be carried; it is in the copy, and goes with the next.
    """
    if not is_bucket(place):
        yield Carrier(Path(place), None)
        return
    copy = _Copy(str(place), process)
    with only_process_in(copy.about):
        if process:
            ready()
            copy.fetch()
            yield Carrier(copy.home, None)
            return
        copy.fetch()
        carrier = Carrier(copy.home, copy)
        carrier.carry()
        ready()
        try:
            yield carrier
        except BaseException:
            try:
                carrier.carry()
            except OSError as error:  # what went wrong before comes first
                print(f"fv: {error}", file=sys.stderr)
            raise
        carrier.carry()


class Carrier:
    """A folder, and how its changes reach the place that it is a copy of, if it is one."""

    def __init__(self, folder: Path, copy: "_Copy | None"):
        self.folder, self._copy = folder, copy

    def carry(self) -> None:
        """Carry what has changed since the last time; nothing where the folder is no copy.

        Raises:
            OSError: the store cannot be reached, or refuses; nothing is lost.
        """
        if self._copy is not None:
            try:
                self._copy.carry()
            except OSError as error:
                raise OSError(
                    f"{error}; what is new is in {self.folder}, and goes with the next"
                ) from error


@functools.cache
def _fetched(place: str) -> Path:
    return fetch(place)


class _Copy:
    """What is known of a copy: `about/index.json` has version, bytes and ns of every file."""

    def __init__(self, place: str, process: int = 0):
        self.place, self.home = place.rstrip("/"), copy_of(place.rstrip("/"), process)
        if not self.place.partition("://")[2].strip("/") or ".." in place.split("/"):
            raise ValueError(f"{place!r} names no bucket; a place is {place[:5]}BUCKET/PATH")
        name = hashlib.sha256(self.place.encode()).hexdigest()[:16]
        self.about = _copies(process) / "index" / name
        try:
            self.known = json.loads((self.about / "index.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none, or not whole
            self.known = {}

    def fetch(self) -> bool:
        """Whether anything is there."""
        with _speaking_plainly(self.place) as (store, root):
            there = _versions(store, root)
            for name, version in there.items():
                path = self.home / name
                if path.is_file() and self.known.get(name, [None])[0] == version:
                    continue
                with replacing(path) as temporary:
                    store.get_file(f"{root}/{name}".rstrip("/"), str(temporary))
                self.known[name] = [version, *_state(path)]
        for name in self.known.keys() - there.keys():  # deleted there
            (self.home / name).unlink(missing_ok=True)
            del self.known[name]
        self._write()
        return bool(there)

    def carry(self) -> None:
        """Files that vouch for others come last."""
        here = {name: _state(path) for name, path in self._files()}
        changed = [name for name, state in here.items() if self.known.get(name, [0])[1:] != state]
        gone = sorted(self.known.keys() - here.keys())
        if not changed and not gone:
            return
        with _speaking_plainly(self.place) as (store, root):
            for name in sorted(changed, key=lambda name: (name.endswith(_LAST), name)):
                if (self.home / name).exists():  # not deleted meanwhile
                    store.put_file(str(self.home / name), f"{root}/{name}")
            for name in gone:
                with contextlib.suppress(FileNotFoundError):
                    store.rm_file(f"{root}/{name}")
                del self.known[name]
            there = _versions(store, root)
        for name in changed:
            if name in there:
                self.known[name] = [there[name], *here[name]]
        self._write()

    def _files(self) -> Iterator[tuple[str, Path]]:
        """But for locks and files that are being written."""
        for path in sorted(self.home.rglob("*")):
            if path.name != "lock" and not path.name.startswith(".") and path.is_file():
                yield path.relative_to(self.home).as_posix(), path

    def _write(self) -> None:
        write_text(self.about / "index.json", json.dumps(self.known))


def _state(path: Path) -> list[int]:
    try:
        found = path.stat()
    except FileNotFoundError:  # a link to nothing, or deleted meanwhile
        return [0, 0]
    return [found.st_size, found.st_mtime_ns]


def _versions(store: Any, root: str) -> dict[str, str]:
    """What the store says that changes with a file, by its name below the root; "" is the root."""
    store.invalidate_cache()
    found = store.find(root, detail=True)
    return {
        name[len(root) :].lstrip("/"): str(
            next((info[key] for key in _VERSIONS if key in info), "")
        )
        for name, info in found.items()
        if not name.endswith("/")  # what consoles make to show a folder
    }


@contextlib.contextmanager
def _speaking_plainly(place: str) -> Iterator[tuple[Any, str]]:
    """The store and the path in it; errors of its client become one sentence with the place."""
    try:
        from fsspec.core import url_to_fs

        store, root = url_to_fs(place)
    except ImportError as error:
        raise ValueError(f'{place} needs gcsfs or s3fs: pip install "fv-jax[cloud]"') from error
    try:
        yield store, root
    except Exception as error:
        client = type(error).__module__.partition(".")[0]
        theirs = client in ("aiohttp", "aiobotocore", "botocore", "gcsfs", "google", "s3fs")
        if not isinstance(error, OSError | ValueError) and not theirs:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OSError(f"{place}: the store does not do that: {reason}") from error
