"""Clips of .npz files, read one at a time, however many a file holds.

    clips = NpzClips(path)       reads no more than the array's header
    clips.read(3)                the pixels of one clip

An .npz is a zip of arrays, and a compressed one can be read from its beginning only. So the file
stays open from the first clip to the last: whoever takes them in order reads it once.
"""

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from fv_jax.array_types import Frames, checked_floats

_KEYS = ("frames", "videos", "video", "arr_0")
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_PART = 1 << 24  # bytes that are skipped at a time
# What is raised of files that are no .npz, or damaged ones.
_DAMAGE = (OSError, EOFError, ValueError, TypeError, AttributeError, KeyError, RuntimeError,
           NotImplementedError, zipfile.BadZipFile, zlib.error)  # fmt: skip


class NpzClips:
    """The clips of an .npz: `frames` [F, Y, X, 3], one clip, or [N, F, Y, X, 3].

    Args:
        path: the file.

    Attributes:
        count: N, or None where the array is one clip.

    Raises:
        ValueError: damaged, or no clips in it; names the file.
    """

    def __init__(self, path: Path):
        self._path = path
        self._stream: IO[bytes] | None = None
        with self._open() as stream, _named(path):
            shape, self._fortran, self._dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
            self._begin = stream.tell()
        if len(shape) not in (4, 5) or shape[-1] != 3 or 0 in shape:
            raise ValueError(
                f"{path}: got an array {shape}, want frames [F, Y, X, 3] or [N, F, Y, X, 3]"
            )
        self.count = shape[0] if len(shape) == 5 else None
        self._shape = shape[-4:]
        if self._fortran and (self.count or 1) > 1:
            raise ValueError(
                f"{path}: got {self.count} clips in Fortran's order, want C's; save "
                "np.ascontiguousarray(frames)"
            )

    def times(self) -> np.ndarray | None:
        """Seconds at which the frames of one clip appear; None if the file has no `fps`."""
        try:
            with np.load(self._path) as file:
                fps = float(file["fps"]) if "fps" in file else 0.0
        except (*_DAMAGE,):
            return None
        return np.arange(self._shape[0]) / fps if 0 < fps < np.inf else None

    def read(self, index: int = 0) -> Frames:
        """One clip; quick if the one before it was read last.

        Raises:
            ValueError: damaged, or pixels that are neither uint8 nor floats in [0, 1].
        """
        size = int(np.prod(self._shape)) * self._dtype.itemsize
        stream = self._at(self._begin + index * size)
        with _named(self._path), self._closing_on_failure():
            pixels = stream.read(size)
            order = "F" if self._fortran else "C"
            values = np.frombuffer(pixels, self._dtype).reshape(self._shape, order=order)
        if index == (self.count or 1) - 1:  # so that a folder of files does not stay open
            self._close()
        name = str(self._path) if self.count is None else f"{self._path}[{index}]"
        if values.dtype == np.uint8:
            return values
        return np.round(checked_floats(values, name) * 255).astype(np.uint8)

    def _at(self, place: int):
        """The array's file at a place, all bytes before it read: where one seeks, since Python 3.13
        the checksum is no longer compared at the end.
        """
        if self._stream is not None and self._stream.tell() > place:
            self._close()
        stream = self._stream = self._stream or self._open()
        with _named(self._path), self._closing_on_failure():
            while stream.tell() < place and stream.read(min(place - stream.tell(), _PART)):
                pass
        return stream

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    @contextlib.contextmanager
    def _closing_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._close()
            raise

    def _open(self):
        """The array's file inside the zip; it keeps the zip open as long as it is itself."""
        with _named(self._path), zipfile.ZipFile(self._path) as file:
            names = [name.removesuffix(".npy") for name in file.namelist()]
            key = next((key for key in _KEYS if key in names), None)
            if key is not None:
                return file.open(f"{key}.npy")
        has = ", ".join(names) or "nothing"
        raise ValueError(f"{self._path}: want an array named `frames`, it has {has}")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise ValueError(f"{path} cannot be read as .npz: {error}") from error
