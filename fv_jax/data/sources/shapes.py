"""`shapes` as a source: clips are drawn when they are asked for."""

import functools

from fv_jax.data.sources.base import Entry, Problem
from fv_jax.media.readers import Array
from fv_jax.shapes import scenes


class Shapes:
    """The first `count` clips of a split of `shapes` (`shapes/scenes.py`)."""

    noise_free = True

    def __init__(self, *, name: str, split: str = "train", count: int = 1000):
        if count < 1:
            raise ValueError(f"shapes's count must be >= 1, got {count}")
        scenes.clip(split, 0)  # an unknown split is an error now
        self.name, self.split, self.count = name, split, count
        self.problems: list[Problem] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Entry:
        if not 0 <= index < self.count:
            raise IndexError(f"clip must be in 0..{self.count - 1}, got {index}")
        spec = scenes.clip(self.split, index)
        read = functools.partial(
            Array,
            functools.partial(scenes.render, spec),
            scenes.FPS,
            count=scenes.NUM_FRAMES,
            size=(scenes.FRAME_SIZE, scenes.FRAME_SIZE),
        )
        return Entry(f"{self.split}/{index:06d}", spec.caption, read)
