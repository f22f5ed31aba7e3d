"""Reading the frames of one clip at random: what all readers have in common.

    reader.times            when each frame appears, seconds from the first
    reader.frames([3, 8])   their pixels as a viewer shows them
    reader.each(range(9))   the same one after the other, each decoded once
    reader.notes            what a person should know of how they are shown, a line each

Files of video are read by `video_file.py`, pictures and animations by `pictures.py`.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from fv_jax.array_types import Frame, Frames

MOST_PIXELS = 8192 * 8192  # of a frame; a damaged header may claim any size
BACKGROUND = 255  # white: what is seen through transparent pixels, of whatever kind of file


class ClipError(ValueError):
    """A clip that cannot be used; the message says why, without naming the clip."""


@runtime_checkable
class Reader(Protocol):
    """Random access to the frames of one clip."""

    @property
    def times(self) -> Float[np.ndarray, " F"]:
        """When each frame appears: seconds, rising, the first 0."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(Y, X) px."""
        ...

    @property
    def notes(self) -> list[str]:
        """What was done to show the clip, and what could not be: one line each."""
        ...

    def each(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Pixels of the chosen frames, one by one; the numbers may repeat, but not fall.

        Raises:
            ClipError: the clip cannot be decoded.
        """
        ...

    def frames(self, indices: Sequence[int]) -> Frames:
        """Pixels of the chosen frames, in the order asked for; an index may come twice.

        Raises:
            ClipError: the clip cannot be decoded.
        """
        ...


class Array:
    """Frames that are made or read as one array when they are first asked for.

    Args:
        load: gives uint8 [F, Y, X, 3].
        fps: of the frames.
        count: F, where it is known without loading.
        size: (Y, X), likewise.
    """

    notes: Sequence[str] = ()

    def __init__(self, load, fps: float, *, count: int, size: tuple[int, int]):
        self._load, self.size = load, size
        if count < 2:
            raise ClipError(f"a clip needs at least 2 frames, got {count}")
        self.times = np.arange(count) / fps

    def each(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Pixels of the chosen frames, one by one."""
        yield from self.frames(indices)

    def frames(self, indices: Sequence[int]) -> Frames:
        """Pixels of the chosen frames."""
        return self._pixels[np.asarray(checked(indices, len(self.times)))]

    @functools.cached_property
    def _pixels(self) -> np.ndarray:
        pixels = self._load()
        want = (len(self.times), *self.size, 3)
        if pixels.dtype != np.uint8 or pixels.shape != want:
            raise ClipError(f"want uint8 frames {want}, got {pixels.dtype} {pixels.shape}")
        return pixels


def gathered(reader: Reader, indices: Sequence[int]) -> Frames:
    """Frames in any order, of a reader that gives them one after the other."""
    wanted, place = np.unique(checked(indices, len(reader.times)), return_inverse=True)
    return np.stack(list(reader.each(wanted.tolist())))[place]


def fps_of(reader: Reader) -> float:
    """Frames per second: the median, which a gap in a recording does not change."""
    return float(1 / np.median(np.diff(reader.times)))


def checked(indices: Sequence[int], count: int) -> list[int]:
    """Frame numbers as integers.

    Raises:
        ValueError: there are none, or one is no number of a frame.
    """
    indices = [int(index) for index in indices]
    if not indices or not 0 <= min(indices) <= max(indices) < count:
        raise ValueError(f"frame numbers must be in 0..{count - 1}, got {indices}")
    return indices


def px(shape: tuple[int, ...]) -> str:
    """A size (Y, X, ..) as people write it."""
    return f"{shape[1]}x{shape[0]} px"
