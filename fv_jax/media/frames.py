"""From a clip of any rate and size to the frames that a network sees.

    fps     a frame is what is on the screen at that moment: the last one that has appeared
    window  `count` frames of it, from a random moment (training), the middle, or one after
            the other (evaluation)
    size    the short side is scaled to it with antialias, the middle is cut out

Pixels are uint8 everywhere here; the tokenizers turn them into floats in [-1, 1] and back.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from fv_jax.array_types import Frame, Frames
from fv_jax.media.readers import ClipError, Reader, fps_of

# Seconds. Matroska rounds time stamps to milliseconds, and so the first one that is subtracted.
_TOLERANCE = 1.1e-3
_MOST_EVEN = 50_000  # frames that an uneven clip may become


@dataclasses.dataclass(frozen=True)
class Window:
    """What to read of a clip.

    Attributes:
        fps: frames per second; 0 takes every frame of the clip.
        size: side of the square frames, px.
        count: frames; 0 takes all.
    """

    fps: float
    size: int
    count: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.fps < math.inf and self.size >= 1 and self.count >= 0):
            raise ValueError(f"fps and count must be >= 0, size >= 1, got {self}")


def frame_numbers(
    reader: Reader, fps: float, start: float = 0.0, count: int = 0
) -> Int[np.ndarray, " F"]:
    """Numbers of the frames on the screen at start, start + 1/fps, ..

    Args:
        reader: the clip; its frames may be spaced unevenly.
        fps: 0 for every frame from `start` on.
        start: seconds.
        count: the number of frames; 0 for as many as there are.

    Raises:
        ClipError: the clip ends before.
    """
    if start < 0:
        raise ValueError(f"start must be >= 0, got {start:g}")
    times = reader.times
    if start > times[-1] + _TOLERANCE:
        raise ClipError(f"too short: it ends before {start:g} s")
    if fps:
        most = math.floor((times[-1] - start + _TOLERANCE) * fps) + 1
        moments, at = start + np.arange(count or most) / fps, f" at {fps:g} fps"
    else:
        first = np.searchsorted(times, start + _TOLERANCE, side="right") - 1
        moments, at = times[first:][: count or None], ""
        most = len(moments)
    if most < count:
        raise ClipError(f"too short: {most} frames{at} of the {count} wanted")
    return np.searchsorted(times, moments + _TOLERANCE, side="right") - 1


def at_even_times(reader: Reader) -> tuple[Int[np.ndarray, " F"], float, list[str]]:
    """Numbers of the frames of a clip at a constant rate, the rate, and what was done for it.

    A clip whose frames stay within half a frame of even times comes as it is, at its mean rate;
    another is taken at its most usual rate: frames that stay longer on the screen come again.

    Raises:
        ClipError: that would be more frames than anybody wants.
    """
    times, fps = reader.times, fps_of(reader)
    mean = (len(times) - 1) / float(times[-1])
    even = np.arange(len(times)) / mean
    if np.abs(times - even).max() <= 0.5 / mean:
        return np.arange(len(times)), mean, []
    count = math.floor(float(times[-1]) * fps + 0.5) + 1
    if count > _MOST_EVEN:
        raise ClipError(
            f"its frames are spaced unevenly, and {fps:.4g} fps throughout would be {count} "
            f"frames, more than {_MOST_EVEN}; cut the pauses out"
        )
    moments = np.arange(count) / fps + _TOLERANCE
    numbers = np.searchsorted(times, moments, side="right") - 1
    note = f"{len(times)} frames at uneven times became {count} at {fps:.4g} fps: it lasts as long"
    return numbers, fps, [note]


def latest_start(reader: Reader, window: Window) -> float:
    """The last moment, in seconds, at which the window still fits into the clip.

    Raises:
        ClipError: it does not fit at all.
    """
    numbers = frame_numbers(reader, window.fps, 0.0, window.count)
    if not window.count:
        return 0.0
    if not window.fps:
        return float(reader.times[len(reader.times) - window.count])
    return max(0.0, float(reader.times[-1]) - (len(numbers) - 1) / window.fps)


def read(reader: Reader, window: Window, start: float = 0.0) -> UInt8[np.ndarray, "F size size 3"]:
    """The window's frames from `start` (seconds) on.

    Raises:
        ClipError: the clip is too short, or damaged where it is read.
    """
    numbers = frame_numbers(reader, window.fps, start, window.count)
    return read_frames(reader, numbers, window.size)


def read_frames(
    reader: Reader, numbers: Int[np.ndarray, " F"], size: int
) -> UInt8[np.ndarray, "F size size 3"]:
    """The frames of these rising numbers, fitted to `size`; a number may come more than once.

    Raises:
        ClipError: the clip cannot be decoded.
    """
    (frames,) = read_pieces(reader, [numbers], size)
    return frames


def read_pieces(
    reader: Reader, pieces: Sequence[Int[np.ndarray, " _"]], size: int
) -> Iterator[UInt8[np.ndarray, "_ size size 3"]]:
    """One stretch of frames after the other, fitted to `size`: all numbers rise, from piece to
    piece, too, and every frame is decoded once.

    Raises:
        ClipError: the clip cannot be decoded.
    """
    frames = read_fitted(reader, np.concatenate(pieces), (size, size))
    for piece in pieces:
        yield np.stack([next(frames) for _ in piece])


def read_fitted(
    reader: Reader, numbers: Int[np.ndarray, " F"], size: tuple[int, int]
) -> Iterator[Frame]:
    """The frames of these rising numbers, fitted to `size` (Y, X), one by one.

    Raises:
        ClipError: the clip cannot be decoded.
    """
    before, small = None, None
    for number, frame in zip(numbers, reader.each(numbers.tolist())):
        if small is None or number != before:
            before, small = number, fit(frame[None], size)[0]
        yield small


def read_random(
    reader: Reader, window: Window, rng: np.random.Generator
) -> UInt8[np.ndarray, "F size size 3"]:
    """A window that begins with any frame after which it fits, all equally likely."""
    starts = reader.times[reader.times <= latest_start(reader, window) + _TOLERANCE]
    return read(reader, window, float(starts[rng.integers(len(starts))]))


def read_centered(reader: Reader, window: Window) -> UInt8[np.ndarray, "F size size 3"]:
    """The window in the middle of the clip."""
    return read(reader, window, latest_start(reader, window) / 2)


def fit(frames: Frames, size: tuple[int, int]) -> np.ndarray:
    """Scale so that `size` (Y, X) is just covered, then cut the middle out."""
    height, width = size
    scale = max(height / frames.shape[1], width / frames.shape[2])
    # Rounding may not leave less than what is cut out.
    scaled = (
        max(width, round(frames.shape[2] * scale)),
        max(height, round(frames.shape[1] * scale)),
    )
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    box = (left, top, left + width, top + height)
    if scaled == (frames.shape[2], frames.shape[1]):
        return frames[:, top : top + height, left : left + width]
    resize = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    return np.stack(
        [np.asarray(Image.fromarray(f).resize(scaled, resize).crop(box)) for f in frames]
    )
