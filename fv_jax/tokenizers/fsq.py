"""Our frame tokenizer: patch-local FSQ. Frames in, one id per patch out, and back.

This is the pixel boundary of the project: uint8 outside, float32 in [-1, 1] inside.
"""

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from fv_jax.batching import batched
from fv_jax.config.model import TokenizerConfig, from_json, to_json
from fv_jax.tokenizers.interface import FrameTokenizer, check_frames, check_ids
from fv_jax.tokenizers.patch_autoencoder import PatchAutoencoder
from fv_jax.tokenizers.quantizer import FSQ, hysteresis
from fv_jax.weights.tensors import params_from_tensors, read_safetensors, write_params

# Frames per compiled call, of many and of few; what is left is padded: there are two traces.
_BATCH, _FEW = 64, 8


class FSQTokenizer(FrameTokenizer):
    """Encode and decode frames with trained weights.

    Attributes:
        config: sizes.
        params: nested dict of float32 arrays.
    """

    header_key = "tokenizer"

    def __init__(self, config: TokenizerConfig, params: dict):
        self.config = config
        self.params = params

    @classmethod
    def load(cls, path: str | os.PathLike) -> "FSQTokenizer":
        """Read a tokenizer file (safetensors with its config in the header).

        Raises:
            FileNotFoundError: no such file.
            ValueError: not a tokenizer file, damaged, or of other shapes than its config says.
        """
        tensors, header = read_safetensors(Path(path))
        if cls.header_key not in header:
            raise ValueError(f"{path} is no tokenizer file: its header has no 'tokenizer' entry")
        config = from_json(TokenizerConfig, json.loads(header[cls.header_key]))
        abstract = nnx.to_pure_dict(nnx.state(_abstract(config), nnx.Param))
        params = params_from_tensors(tensors, _string_keys(abstract), Path(path))
        return cls(config, params)

    from_file = load

    def save(self, path: str | os.PathLike) -> None:
        """Write the weights as bfloat16, with the config in the header."""
        header = {self.header_key: json.dumps(to_json(self.config))}
        write_params(Path(path), _string_keys(self.params), header)

    @property
    def codebook_size(self) -> int:
        """Number of ids."""
        return FSQ(self.config.levels).codebook_size

    @property
    def downsample(self) -> int:
        """Pixels per id along each side."""
        return self.config.patch

    @property
    def reach(self) -> int:
        """How many ids away a changed pixel can change an id."""
        return 1 if self.config.halo else 0

    def encode(self, frames: UInt8[np.ndarray, "B Y X 3"]) -> Int[np.ndarray, "B h w"]:
        """Ids of single frames, int32.

        Raises:
            ValueError: not uint8 [B, Y, X, 3], or a size that is no multiple of `downsample`.
        """
        check_frames(frames, self.downsample)
        encode = functools.partial(_encode, self.config, self.params)
        return _batched(encode, frames)

    def encode_clips(
        self, clips: Sequence[UInt8[np.ndarray, "_ Y X 3"]]
    ) -> list[Int[np.ndarray, "_ h w"]]:
        """Ids of clips' frames in time order, with hysteresis: stable under camera noise.

        Frames of all clips, which have one size, share batches.
        """
        for frames in clips:
            check_frames(frames, self.downsample)
        encode = functools.partial(_bounded, self.config, self.params)
        bounded = _batched(encode, np.concatenate(clips))
        ends = np.cumsum([len(frames) for frames in clips])[:-1]
        levels = [hysteresis(part, self.config.hysteresis) for part in np.split(bounded, ends)]
        ids = _batched(functools.partial(_ids, self.config.levels), np.concatenate(levels))
        return np.split(ids, ends)

    def decode(self, ids: Int[np.ndarray, "B h w"]) -> UInt8[np.ndarray, "B Y X 3"]:
        """Frames of ids.

        Raises:
            ValueError: ids outside 0..codebook_size - 1.
        """
        ids = np.asarray(ids)
        check_ids(ids, self.codebook_size)
        return _batched(functools.partial(decode_ids, self.config, self.params), ids)

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with the config or the weights."""
        digest = hashlib.sha256(json.dumps(to_json(self.config)).encode())
        for leaf in jax.tree.leaves(self.params):
            digest.update(np.ascontiguousarray(leaf).tobytes())
        return digest.hexdigest()[:12]


def to_float(frames: UInt8[Array, "*b"]) -> Float[Array, "*b"]:
    """uint8 levels to float32 in [-1, 1]."""
    return frames.astype(jnp.float32) / 127.5 - 1


def to_uint8(pixels: Float[Array, "*b"]) -> UInt8[Array, "*b"]:
    """Float in [-1, 1] (clipped) to the nearest uint8 level."""
    return jnp.round(jnp.clip(pixels + 1, 0, 2) * 127.5).astype(jnp.uint8)


@functools.partial(jax.jit, static_argnums=0)
def _bounded(config: TokenizerConfig, params: dict, frames: Array) -> Array:
    return FSQ(config.levels).bound(_merge(config, params).latent(to_float(frames)))


@functools.partial(jax.jit, static_argnums=0)
def _encode(config: TokenizerConfig, params: dict, frames: Array) -> Array:
    return FSQ(config.levels).ids(jnp.round(_bounded(config, params, frames)))


@functools.partial(jax.jit, static_argnums=0)
def _ids(levels: tuple[int, ...], rounded: Array) -> Array:
    return FSQ(levels).ids(rounded)


@functools.partial(jax.jit, static_argnums=0)
def decode_ids(
    config: TokenizerConfig, params: dict, ids: Int[Array, "B h w"]
) -> UInt8[Array, "B Y X 3"]:
    """Frames of ids, jitted: what `FSQTokenizer.decode` calls."""
    return to_uint8(_merge(config, params).pixels(FSQ(config.levels).codes(ids)))


def _abstract(config: TokenizerConfig) -> PatchAutoencoder:
    return nnx.eval_shape(lambda: PatchAutoencoder(config, rngs=nnx.Rngs(0)))


def _merge(config: TokenizerConfig, params: dict) -> PatchAutoencoder:
    return nnx.merge(nnx.graphdef(_abstract(config)), _integer_keys(params))


def _string_keys(tree):
    """nnx numbers a list's modules with integers; files name them with strings."""
    if not isinstance(tree, dict):
        return tree
    return {str(key): _string_keys(value) for key, value in tree.items()}


def _integer_keys(tree):
    if not isinstance(tree, dict):
        return tree
    return {int(k) if str(k).isdigit() else k: _integer_keys(v) for k, v in tree.items()}


def _batched(function, inputs: np.ndarray) -> np.ndarray:
    return batched(function, inputs, _BATCH if len(inputs) >= _BATCH else _FEW)
