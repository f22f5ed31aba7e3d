"""Pairs of frames of one clip, which is what the frame tokenizer is trained on.

What stays and what changes between two frames says which ids should stay and which must not;
no annotation is needed, only video.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from fv_jax.data.skips import Skips
from fv_jax.data.sources.base import Entry
from fv_jax.files import replacing
from fv_jax.media.readers import ClipError, Reader
from fv_jax.shapes import scenes

_PAIRS_PER_VISIT = 16  # at most
_STRETCH = 300  # frames; pairs of one visit come from so many neighbors, decoded in one go


@runtime_checkable
class Pairs(Protocol):
    """Where pairs come from."""

    def draw(self, rng: np.random.Generator) -> UInt8[np.ndarray, "2 Y X 3"]:
        """Two frames of one clip."""
        ...


class ShapePairs:
    """Any two frames of a clip of `shapes` that was never drawn before."""

    def draw(self, rng: np.random.Generator) -> UInt8[np.ndarray, "2 Y X 3"]:
        """Two frames at any distance."""
        clip = scenes.clip("train", int(rng.integers(2**31)))
        return scenes.render(clip, rng.choice(scenes.NUM_FRAMES, 2, replace=False))


class VideoPairs:
    """Consecutive frames of videos, decoded once into one file of pixels.

    Half of the pairs show the whole frame (its short side), half a square of a random place and
    size, not smaller than the pair's own pixels; half of all are mirrored.

    Args:
        entries: clips to draw from, all equally often.
        count: the number of pairs to make.
        size: the side of the squares, px.
        folder: the folder of this source that keeps the file; the same arguments find it again.
        skips: told of clips that cannot be read.
    """

    def __init__(
        self, entries: Sequence[Entry], *, count: int, size: int, folder: Path, skips: Skips
    ):
        text = "\n".join([*(entry.id for entry in entries), str((count, size))])
        path = folder / f"pairs-{hashlib.sha256(text.encode()).hexdigest()[:12]}.npy"
        if not path.exists():
            with replacing(path) as temporary:
                shape = (count, 2, size, size, 3)
                pixels = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
                _fill(pixels, entries, size, skips)
                pixels.flush()
        self.pixels = np.load(path, mmap_mode="r")

    def draw(self, rng: np.random.Generator) -> UInt8[np.ndarray, "2 Y X 3"]:
        """Two consecutive frames."""
        return np.asarray(self.pixels[rng.integers(len(self.pixels))])


def varied(pair: UInt8[np.ndarray, "2 size size 3"], rng: np.random.Generator) -> np.ndarray:
    """A square pair turned, with other colors, brightness and contrast; the same for both frames.

    Red, green and blue change places, contrast becomes 0.5 to 1.2 times what it was, and the
    middle gray moves by up to 40 levels.
    """
    turned = np.rot90(pair, int(rng.integers(4)), axes=(1, 2))[..., rng.permutation(3)]
    gain, shift = rng.uniform(0.5, 1.2), rng.uniform(-40, 40)
    levels = (np.arange(256) - 127.5) * gain + 127.5 + shift
    return np.clip(np.round(levels), 0, 255).astype(np.uint8)[turned]


def _fill(pixels: np.ndarray, entries: Sequence[Entry], size: int, skips: Skips) -> None:
    """Visit the clips in turn, in a new order each round, until the file is full."""
    done, unusable = 0, set()
    per_visit = min(_PAIRS_PER_VISIT, -(-len(pixels) // len(entries)))  # so that all have a turn
    with tqdm(total=len(pixels), desc="reading pairs of frames", unit="pair") as bar:
        for visit, entry in enumerate(_visits(entries)):
            want = min(per_visit, len(pixels) - done)
            if not want:
                break
            if entry.id in unusable:
                continue
            rng = np.random.default_rng([visit, size])
            try:
                pairs = _pairs(entry.open(), want, size, rng)
            except ClipError as error:
                skips.add(entry.id, error)
                unusable.add(entry.id)
                if len(unusable) == len(entries):
                    raise ValueError(f"no clip of {len(entries)} can be read") from error
                continue
            pixels[done : done + len(pairs)] = pairs
            done += len(pairs)
            bar.update(len(pairs))


def _visits(entries: Sequence[Entry]) -> Iterator[Entry]:
    """All clips, and again in another order, for ever."""
    for turn in itertools.count():
        for place in np.random.default_rng(turn).permutation(len(entries)):
            yield entries[place]


def _pairs(reader: Reader, count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    last = len(reader.times) - 1
    start = int(rng.integers(max(1, last - _STRETCH + 1)))
    firsts = rng.permutation(np.arange(start, min(start + _STRETCH, last)))[:count]
    numbers = np.unique([firsts, firsts + 1])
    frames = reader.frames(numbers.tolist())
    return np.stack(
        [_square(frames[np.searchsorted(numbers, [i, i + 1])], size, rng) for i in firsts]
    )


def _square(pair: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """The same square of both frames, scaled to `size`."""
    height, width = pair.shape[1:3]
    short = min(height, width)
    side = short if rng.uniform() < 0.5 else rng.uniform(min(size, short), short)
    left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
    box = (left, top, left + side, top + side)
    resize = Image.Resampling.LANCZOS if side > size else Image.Resampling.BICUBIC
    scaled = [np.asarray(Image.fromarray(f).resize((size, size), resize, box=box)) for f in pair]
    step = -1 if rng.uniform() < 0.5 else 1
    return np.stack(scaled)[:, :, ::step]
