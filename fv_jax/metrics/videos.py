"""Sets of videos as every metric takes them: one clip after the other, checked, with a name.

A set is anything that can be iterated over and gives clips, each an array [F, Y, X, 3]: an array
[N, F, Y, X, 3] (in memory or memory-mapped), a list, or a generator that reads files. Only the
clips that are being looked at are in memory.

Pixels are uint8, or floats in [0, 1]. Floats in [-1, 1] or up to 255 are errors here: numbers that
came of the wrong range are among the most frequent mistakes with these metrics (universome/
fvd-comparison issue 4, richzhang/PerceptualSimilarity issues 83 and 84).
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sized
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from fv_jax.array_types import checked_floats

Videos = Iterable[Any]  # of clips: arrays [F, Y, X, 3], or what has such `frames` and a `name`
AnyFrames = UInt8[np.ndarray, "*b Y X 3"] | Float[np.ndarray, "*b Y X 3"]  # one array of them


class NamedClip(NamedTuple):
    """A clip, and what messages call it: its file, or `fake[3]`.

    Attributes:
        name: file, or name of the set and number.
        frames: [F, Y, X, 3].
    """

    name: str
    frames: np.ndarray


@dataclasses.dataclass(eq=False)
class Checker:
    """Lets pass the clips that fit the metrics and each other.

    Attributes:
        least_frames: that a clip needs, for `purpose`.
        least_size: px of either side, likewise.
        purpose: of whom these are.
        like: the checker of the set that this one is compared with: their clips have one shape.
        first: name and shape of the first clip, which all others must have.
    """

    least_frames: int = 1
    least_size: int = 1
    purpose: str = "a metric"
    like: "Checker | None" = None
    first: tuple[str, tuple[int, ...]] | None = None
    _dtype: np.dtype | None = None

    def __call__(self, clip: NamedClip) -> NamedClip:
        """The clip; floats as float32.

        Raises:
            ValueError: not [F, Y, X, 3] with a frame; neither uint8 nor floats in [0, 1]; too few
                or too small frames; another length, size or type than the first one's.
        """
        name, frames = clip
        if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
            raise ValueError(
                f"{name} must be [F, Y, X, 3] with at least one frame, got {list(frames.shape)}"
            )
        if len(frames) < self.least_frames:
            raise ValueError(
                f"{self.purpose} needs clips of at least {self.least_frames} frames, {name} has "
                f"{len(frames)}"
            )
        if min(frames.shape[1:3]) < self.least_size:
            raise ValueError(
                f"{self.purpose} needs frames of at least {self.least_size}x{self.least_size} px, "
                f"got {frames.shape[1]}x{frames.shape[2]} in {name}"
            )
        first = self.first or (self.like and self.like.first)
        if first and first[1] != frames.shape:
            got, want = (f"{s[0]} frames of {s[2]}x{s[1]} px" for s in (frames.shape, first[1]))
            raise ValueError(f"{name}: got {got}, want {want} as {first[0]} has")
        if frames.dtype != np.uint8:
            frames = checked_floats(frames, name)
        if self._dtype not in (None, frames.dtype):
            raise ValueError(
                f"the clips of a set must be all uint8 or all floats, got {frames.dtype} in {name} "
                f"after {self._dtype}"
            )
        self.first, self._dtype = first or (name, frames.shape), frames.dtype
        return NamedClip(name, frames)


def named(videos: Videos, what: str) -> Iterator[NamedClip]:
    """The clips of a set, those without a name of their own called `what[0]`, `what[1]`, ..

    Raises:
        ValueError: there are none.
    """
    empty = True
    for i, item in enumerate(videos):
        empty = False
        frames = np.asarray(getattr(item, "frames", item))
        yield NamedClip(getattr(item, "name", None) or f"{what}[{i}]", frames)
    if empty:
        raise ValueError(f"no clips in {what}")


def pairs(real: Videos, fake: Videos) -> Iterator[tuple[NamedClip, NamedClip]]:
    """Clips of two sets, the first with the first and so on, and an error if one set ends before.

    Raises:
        ValueError: other numbers of clips, or none.
    """
    counted = isinstance(real, Sized) and isinstance(fake, Sized)
    if counted and len(real) and len(fake) and len(real) != len(fake):  # type: ignore[arg-type]
        raise ValueError(
            f"clips are compared in pairs: real has {len(real)}, "  # type: ignore[arg-type]
            f"fake has {len(fake)}"  # type: ignore[arg-type]
        )
    one, other = named(real, "real"), named(fake, "fake")
    count = 0
    for a in one:
        b = next(other, None)
        if b is None:
            raise ValueError(
                f"clips are compared in pairs: fake has {count}, real has more "
                f"(there is no other for {a.name})"
            )
        yield a, b
        count += 1
    extra = next(other, None)
    if extra is not None:
        raise ValueError(
            f"clips are compared in pairs: real has {count}, fake has more "
            f"(there is no other for {extra.name})"
        )


def unit(pixels: Array) -> Float[Array, "..."]:
    """Pixels as float32 in [0, 1], inside a jitted function."""
    scale = 255 if pixels.dtype == jnp.uint8 else 1
    return pixels.astype(jnp.float32) / scale
