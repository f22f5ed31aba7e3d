"""A video as the generator gives it and the writers take it."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool

from fv_jax.array_types import Frames, Ids


@dataclasses.dataclass(frozen=True)
class Clip:
    """One generated video.

    Attributes:
        frames: pixels.
        ids: frame codes.
        key_frame: which frames are key frames.
        inherited: which ids were copied rather than sampled.
        fps: frames per second.
        stats: sampler steps, tokens by kind, seconds by stage (of the whole batch).
    """

    frames: Frames
    ids: Ids
    key_frame: Bool[np.ndarray, " F"]
    inherited: Bool[np.ndarray, "F h w"]
    prompt: str
    seed: int
    fps: float
    stats: dict[str, Any]

    @property
    def times(self) -> str:
        """Seconds by stage, as one reads them."""
        return ", ".join(f"{stage} {value:.1f} s" for stage, value in self.stats["seconds"].items())
