"""Clips held out of a source, the same ones in every stage that uses it.

Of a clip that is alone its last frames are held out, and a line says so: what is measured on them
says nothing of other clips.
"""

import dataclasses
import functools
import hashlib
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from fv_jax.data.sources.base import Entry, Source, open_source
from fv_jax.media.readers import ClipError, Reader

_LAST = 1 / 3  # of a clip that is alone


@dataclasses.dataclass(frozen=True)
class Part:
    """Some clips of a source, or all."""

    source: Source
    entries: list[Entry]


def open_whole(name: str) -> Part:
    """All clips of a source; see `open_source`."""
    source = open_source(name)
    return Part(source, [source[i] for i in range(len(source))])


def open_split(name: str, valid: str, share: float) -> tuple[Part, Part]:
    """Clips to train on, and clips to evaluate on.

    Args:
        name: names a source, as `open_source` takes it.
        valid: names another one for evaluation; "" holds clips of the first one out.
        share: the share of clips to hold out, in (0, 1).

    Raises:
        FileNotFoundError: a folder or file of a source is missing.
        ValueError: no such kind or option, or no clips.
    """
    every = open_whole(name)
    if valid:
        return every, open_whole(valid)
    if len(every.entries) == 1:
        (entry,) = every.entries
        say_one_clip(name)
        parts = (
            Entry(f"{entry.id}#{part}", entry.text, functools.partial(_Stretch, entry, part))
            for part in ("first", "last")
        )
        train, held = (Part(every.source, [part]) for part in parts)
        return train, held
    sides = split([entry.id for entry in every.entries], share)
    train, held = (Part(every.source, [every.entries[i] for i in side]) for side in sides)
    return train, held


def say_one_clip(name: str) -> None:
    """On stderr: why numbers on held-out data are good."""
    print(
        f"fv: {name} is one clip: its last third is held out instead of other clips, so numbers on "
        "it say nothing of clips that look different",
        file=sys.stderr,
    )


def frames_held_out(count: int, least: int = 1) -> int:
    """How many of the frames of a clip that is alone: the last third, or `least`."""
    return max(least, round(_LAST * count))


class _Stretch:
    """The first frames of a clip, or those held out, as a clip."""

    def __init__(self, entry: Entry, part: str):
        self._reader: Reader = entry.open()
        count = len(self._reader.times)
        cut = count - frames_held_out(count)
        if cut < 2:
            raise ClipError(f"too short: {count} frames, and the last third of them is held out")
        self._frames = range(cut) if part == "first" else range(cut, count)

    @property
    def times(self) -> Float[np.ndarray, " F"]:
        times = self._reader.times[self._frames.start : self._frames.stop]
        return times - times[0]

    @property
    def size(self) -> tuple[int, int]:
        return self._reader.size

    @property
    def notes(self) -> list[str]:
        return self._reader.notes

    def each(self, indices: Sequence[int]) -> Iterator[UInt8[np.ndarray, "Y X 3"]]:
        return self._reader.each([self._frames[i] for i in indices])

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "F Y X 3"]:
        return self._reader.frames([self._frames[i] for i in indices])


def split(ids: Sequence[str], share: float) -> tuple[list[int], list[int]]:
    """Numbers of the clips to train on, and of those held out.

    Args:
        ids: the id of every clip; clips with the same id stay together.
        share: the share of ids to hold out, in (0, 1).

    Raises:
        ValueError: fewer than two ids, or a share outside (0, 1).
    """
    held = held_out(list(dict.fromkeys(ids)), share)
    sides = ([], [])
    for number, clip in enumerate(ids):
        sides[clip in held].append(number)
    return sides


def held_out(ids: Sequence[str], share: float) -> set[str]:
    """The ids that are kept for evaluation: those with the smallest hashes.

    Which ones does not depend on their order, and hardly on what else there is.

    Args:
        ids: the id of every clip.
        share: the share to hold out, in (0, 1); at least one clip is, and at least one is not.

    Raises:
        ValueError: fewer than two clips, or a share outside (0, 1).
    """
    if len(ids) < 2:
        raise ValueError(
            f"{len(ids)} clip is too few to hold one out; add clips, or name others for evaluation"
        )
    if not 0 < share < 1:
        raise ValueError(f"the share held out must be in (0, 1), got {share}")
    count = min(max(1, round(share * len(ids))), len(ids) - 1)
    ranked = sorted(ids, key=lambda clip: hashlib.sha256(clip.encode()).digest())
    return set(ranked[:count])
