"""What every frame tokenizer can do, ours (`fsq.py`) and the paper's (`icetk/`)."""

import abc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Int, UInt8


class FrameTokenizer(abc.ABC):
    """Frames to a grid of ids and back. A kind of it is one class, and a line in `TOKENIZERS`.

    Attributes:
        header_key: the entry by which a .safetensors file of this kind is known; "" for none.
        suffixes: of its other files, such as (".pt",).
        file_name: of the file that `KIND:FOLDER` means.
    """

    header_key: ClassVar[str] = ""
    suffixes: ClassVar[tuple[str, ...]] = ()
    file_name: ClassVar[str] = "tokenizer.safetensors"

    @classmethod
    @abc.abstractmethod
    def from_file(cls, path: Path) -> "FrameTokenizer":
        """Read a file of this kind, and what belongs to it beside it.

        Raises:
            FileNotFoundError: no such file.
            ValueError: it is of another kind, or damaged.
        """

    @abc.abstractmethod
    def save(self, path: str | os.PathLike) -> None:
        """Write one file that `load_tokenizer` reads."""

    @property
    @abc.abstractmethod
    def codebook_size(self) -> int:
        """Number of ids."""

    @property
    @abc.abstractmethod
    def downsample(self) -> int:
        """Pixels per id along each side."""

    @property
    @abc.abstractmethod
    def reach(self) -> int:
        """How many ids away a changed pixel can change an id."""

    @abc.abstractmethod
    def encode(self, frames: UInt8[np.ndarray, "B Y X 3"]) -> Int[np.ndarray, "B h w"]:
        """Ids of single frames, int32."""

    @abc.abstractmethod
    def decode(self, ids: Int[np.ndarray, "B h w"]) -> UInt8[np.ndarray, "B Y X 3"]:
        """Frames of ids."""

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with config or weights."""

    def encode_clips(
        self, clips: Sequence[UInt8[np.ndarray, "_ Y X 3"]]
    ) -> list[Int[np.ndarray, "_ h w"]]:
        """Ids of clips' frames in time order, as steady as the tokenizer can make them."""
        return each_frame_alone(self, clips)


def clip_ids(
    tokenizer: FrameTokenizer,
    clips: Sequence[UInt8[np.ndarray, "_ Y X 3"]],
    *,
    noise_free: bool,
) -> list[Int[np.ndarray, "_ h w"]]:
    """Ids of clips as training wants them.

    Where there is no noise each frame is encoded alone: an id that depends on its patch's pixels
    alone is easier to predict.
    """
    return each_frame_alone(tokenizer, clips) if noise_free else tokenizer.encode_clips(clips)


def each_frame_alone(
    tokenizer: FrameTokenizer, clips: Sequence[UInt8[np.ndarray, "_ Y X 3"]]
) -> list[Int[np.ndarray, "_ h w"]]:
    """Ids of clips' frames, whatever lies before them; the clips have one size."""
    ids = tokenizer.encode(np.concatenate(clips))
    return np.split(ids, np.cumsum([len(clip) for clip in clips])[:-1])
