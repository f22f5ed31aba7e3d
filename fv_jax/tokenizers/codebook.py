"""A frame tokenizer that is a table: an id names a patch of pixels, the nearest of those it has.

Made for pictures that are drawn of tiles, such as `arcade`'s: there a few thousand patches are
nearly all that is ever seen, and a table has them exactly, which an autoencoder of as many codes
does not (docs/deviations.md). It is vector quantization in pixel space: nothing is trained but the
table, by k-means (`training/codebook.py`).
"""

import functools
import hashlib
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jaxtyping import Array, Float, Int, UInt8

from fv_jax.batching import batched
from fv_jax.files import replacing
from fv_jax.tokenizers.interface import FrameTokenizer, check_frames, check_ids
from fv_jax.weights.tensors import read_safetensors

MOST_SIDE = 10  # px: in larger patches sums of squares would no longer be exact in float32
_BATCH = 512  # patches


class CodebookTokenizer(FrameTokenizer):
    """Encode and decode frames with a table of patches.

    Attributes:
        patches: uint8 [V, p, p, 3], the pixels of every id.
    """

    header_key = "codebook"
    reach = 0

    def __init__(self, patches: UInt8[np.ndarray, "V side side 3"]):
        side = patches.shape[1] if patches.ndim == 4 else 0
        if patches.dtype != np.uint8 or patches.shape[1:] != (side, side, 3) or len(patches) < 2:
            raise ValueError(
                f"a table must be uint8 [V, p, p, 3], got {patches.dtype} {list(patches.shape)}"
            )
        if not 1 <= side <= MOST_SIDE:
            raise ValueError(f"the side of a patch must be 1 to {MOST_SIDE} px, got {side}")
        self.patches = patches

    @classmethod
    def from_file(cls, path: Path) -> "CodebookTokenizer":
        """Read a .safetensors file that `save` wrote."""
        tensors, header = read_safetensors(path)
        if cls.header_key not in header or set(tensors) != {"patches"}:
            raise ValueError(f"{path} is no tokenizer of this kind: it has no table of patches")
        return cls(np.asarray(tensors["patches"]))

    def save(self, path: str | os.PathLike) -> None:
        """Write the table, an exact copy."""
        with replacing(Path(path)) as temporary:
            header = {self.header_key: "1"}
            safetensors.numpy.save_file({"patches": self.patches}, temporary, metadata=header)

    @property
    def codebook_size(self) -> int:
        """Number of ids."""
        return len(self.patches)

    @property
    def downsample(self) -> int:
        """Pixels per id along each side."""
        return self.patches.shape[1]

    def encode(self, frames: UInt8[np.ndarray, "B Y X 3"]) -> Int[np.ndarray, "B h w"]:
        """Ids of single frames, int32: of equally near patches the first one's.

        Raises:
            ValueError: not uint8 [B, Y, X, 3], or a size that is no multiple of `downsample`.
        """
        side = self.downsample
        patches = cut(frames, side)
        different, which = distinct(patches)
        ids = nearest(different, self._rows)
        return ids[which].reshape(len(frames), frames.shape[1] // side, -1)

    def decode(self, ids: Int[np.ndarray, "B h w"]) -> UInt8[np.ndarray, "B Y X 3"]:
        """Frames of ids.

        Raises:
            ValueError: ids outside 0..codebook_size - 1.
        """
        ids = np.asarray(ids)
        check_ids(ids, self.codebook_size)
        tiles = self.patches[ids].swapaxes(2, 3)  # [B, h, p, w, p, 3]
        return tiles.reshape(len(ids), tiles.shape[1] * tiles.shape[2], -1, 3)

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with the table."""
        digest = hashlib.sha256(f"codebook{self.patches.shape}".encode())
        digest.update(np.ascontiguousarray(self.patches).tobytes())
        return digest.hexdigest()[:12]

    @functools.cached_property
    def _rows(self) -> Float[Array, "V C"]:
        return jnp.asarray(self.patches.reshape(len(self.patches), -1), jnp.float32) - 128


def cut(frames: UInt8[np.ndarray, "B Y X 3"], side: int) -> UInt8[np.ndarray, "N C"]:
    """All patches of frames, in the order of their ids.

    Raises:
        ValueError: not uint8 [B, Y, X, 3], or a size that is no multiple of `side`.
    """
    check_frames(frames, side)
    count, height, width = frames.shape[:3]
    tiles = frames.reshape(count, height // side, side, width // side, side, 3)
    return tiles.swapaxes(2, 3).reshape(-1, side * side * 3)


def distinct(
    patches: UInt8[np.ndarray, "N C"],
) -> tuple[UInt8[np.ndarray, "different C"], Int[np.ndarray, " N"]]:
    """Patches without repetitions, and which of them each one is."""
    whole = np.ascontiguousarray(patches).view(np.dtype((np.void, patches.shape[1])))[:, 0]
    _, first, which = np.unique(whole, return_index=True, return_inverse=True)
    return patches[first], which


def nearest(patches: UInt8[np.ndarray, "N C"], rows: Float[Array, "V C"]) -> np.ndarray:
    """For every patch the number of the row that it is nearest to, int32 [N].

    Args:
        patches: pixels.
        rows: pixels less 128; whole numbers give exact distances, on every device: all products
            and sums are then whole numbers below 2^24, even if inputs are rounded to bfloat16.
    """
    return batched(functools.partial(_nearest, rows), patches, _BATCH)


@jax.jit
def _nearest(rows: Array, patches: Array) -> Array:
    pixels = patches.astype(jnp.float32) - 128
    distances = (rows**2).sum(1) - 2 * pixels @ rows.T  # less the patch's own square
    return distances.argmin(1).astype(jnp.int32)
