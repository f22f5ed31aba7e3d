"""What every frame tokenizer can do, ours (`fsq.py`) and the paper's (`icetk/`)."""

import os
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8


def clip_ids(
    tokenizer: "FrameTokenizer",
    clips: Sequence[UInt8[np.ndarray, "_ Y X 3"]],
    *,
    noise_free: bool,
) -> list[Int[np.ndarray, "_ h w"]]:
    """Ids of clips as training wants them.

    Where there is no noise each frame is encoded alone: an id that depends on its patch's pixels
    alone is easier to predict.
    """
    if not noise_free:
        return tokenizer.encode_clips(clips)
    ids = tokenizer.encode(np.concatenate(clips))
    return np.split(ids, np.cumsum([len(clip) for clip in clips])[:-1])


@runtime_checkable
class FrameTokenizer(Protocol):
    """Frames to a grid of ids and back."""

    @property
    def codebook_size(self) -> int:
        """Number of ids."""
        ...

    @property
    def downsample(self) -> int:
        """Pixels per id along each side."""
        ...

    @property
    def reach(self) -> int:
        """How many ids away a changed pixel can change an id."""
        ...

    def encode(self, frames: UInt8[np.ndarray, "B Y X 3"]) -> Int[np.ndarray, "B h w"]:
        """Ids of single frames, int32."""
        ...

    def encode_clips(
        self, clips: Sequence[UInt8[np.ndarray, "_ Y X 3"]]
    ) -> list[Int[np.ndarray, "_ h w"]]:
        """Ids of clips' frames in time order, as steady as the tokenizer can make them."""
        ...

    def decode(self, ids: Int[np.ndarray, "B h w"]) -> UInt8[np.ndarray, "B Y X 3"]:
        """Frames of ids."""
        ...

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with config or weights."""
        ...

    def save(self, path: str | os.PathLike) -> None:
        """Write one file that `load_tokenizer` reads."""
        ...
