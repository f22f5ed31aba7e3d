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


def check_frames(frames: np.ndarray, side: int) -> None:
    """Refuse what is no frames of whole patches.

    Raises:
        ValueError: not uint8 [B, Y, X, 3], or a size that is no multiple of `side`, px.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(
            f"frames must be uint8 [B, Y, X, 3], got {frames.dtype} {list(frames.shape)}"
        )
    height, width = frames.shape[1:3]
    if height % side or width % side or 0 in (height, width):
        raise ValueError(f"frame sides must be multiples of {side} px, got {height}x{width}")


def check_ids(ids: np.ndarray, codebook_size: int) -> None:
    """Refuse what is no ids of frames.

    Raises:
        ValueError: not integers [B, h, w], or outside 0..codebook_size - 1.
    """
    if ids.ndim != 3 or not np.issubdtype(ids.dtype, np.integer) or 0 in ids.shape[1:]:
        raise ValueError(f"ids must be integers [B, h, w], got {ids.dtype} {list(ids.shape)}")
    if ids.size and not 0 <= ids.min() <= ids.max() < codebook_size:
        raise ValueError(f"ids must be in 0..{codebook_size - 1}, got {ids.min()}..{ids.max()}")
