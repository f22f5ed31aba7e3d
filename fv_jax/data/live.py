"""Clips tokenized while training: every draw is a new window of the video, mirrored or not.

Costs decoding and encoding at every step; `fv tokenize` does both once, without augmentation.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt16

from fv_jax.data.skips import Skips
from fv_jax.data.sources.base import Entry
from fv_jax.media.frames import Window, read_centered, read_random
from fv_jax.media.readers import ClipError
from fv_jax.tokenizers.interface import FrameTokenizer, clip_ids


class LiveClips:
    """Windows of a source's clips as ids.

    A clip that cannot be read is reported once, and the next one that can takes its place: an
    epoch keeps its length.

    Args:
        entries: the clips.
        tokenizer: the frame tokenizer.
        window: what to read of each clip.
        mirror: show half of the draws mirrored left to right. Not for text with sides in it.
        centered: always read the middle, for evaluation.
        noise_free: pixels that do not change are exactly equal, as in rendered clips.
        skips: told of clips that cannot be read.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        tokenizer: FrameTokenizer,
        window: Window,
        *,
        mirror: bool = False,
        centered: bool = False,
        noise_free: bool = False,
        skips: Skips,
    ):
        self.entries, self.tokenizer, self.window = entries, tokenizer, window
        self.mirror, self.skips = mirror, skips
        self.centered, self.noise_free = centered, noise_free
        self._unusable: set[int] = set()

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def texts(self) -> list[str]:
        """The text of every clip."""
        return [entry.text for entry in self.entries]

    def draw(self, index: int, rng: np.random.Generator) -> tuple[str, UInt16[np.ndarray, "F P"]]:
        """Text and ids of a random window.

        Raises:
            ValueError: no clip at all can be read.
        """
        seed = int(rng.integers(2**63))
        for step in range(len(self.entries)):
            place = (index + step) % len(self.entries)
            if place in self._unusable:
                continue
            entry = self.entries[place]
            own = np.random.default_rng([seed, place])  # whatever was tried before
            try:
                reader = entry.open()
                if self.centered:
                    frames = read_centered(reader, self.window)
                else:
                    frames = read_random(reader, self.window, own)
            except ClipError as error:
                self.skips.add(entry.id, error)
                self._unusable.add(place)
                continue
            if self.mirror and own.uniform() < 0.5:
                frames = frames[:, :, ::-1]
            frames = np.ascontiguousarray(frames)
            (ids,) = clip_ids(self.tokenizer, [frames], noise_free=self.noise_free)
            return entry.text, ids.reshape(len(ids), -1).astype(np.uint16)
        raise ValueError(f"none of {len(self.entries)} clips can be read")
