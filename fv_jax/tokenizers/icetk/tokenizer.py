"""icetk, the image and text tokenizer of the paper, from the user's own files and without torch.

    tokenizer = IceTokenizer.load("ice_image.pt", text_model="ice_text.model")
    ids = tokenizer.encode(frames)            # uint8 [B, 160, 160, 3] -> [B, 20, 20] below 20,000
    frames = tokenizer.decode(ids)
    tokenizer.encode_text("a red circle")     # ids from 20,000 on

A port of icetk 0.0.7 (`network.py`, `text.py`); its weights are not part of this
package. Ids are those of icetk in float32; icetk's own default is float16, where about one id in
a hundred differs.
"""

import functools
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jaxtyping import Array, Float, Int, UInt8

from fv_jax.batching import batched
from fv_jax.config.model import from_json, to_json
from fv_jax.files import replacing
from fv_jax.tokenizers.icetk import weights as icetk_weights
from fv_jax.tokenizers.icetk.network import RATES, IceConfig, nearest, with_parameters
from fv_jax.tokenizers.icetk.text import IceText
from fv_jax.tokenizers.interface import FrameTokenizer, check_frames, check_ids
from fv_jax.weights.tensors import read_safetensors
from fv_jax.weights.torch_checkpoint import read_checkpoint, state_dict

# Mean and deviation of pixels in 0..1; icetk computes with these in float32.
_MEAN = np.array([0.79093, 0.76271, 0.75340], np.float32)
_STD = np.array([0.30379, 0.32279, 0.32800], np.float32)
_PIXELS = 16 * 160 * 160  # of a batch
_FILES = (
    "icetk needs ice_image.pt (the weights, about 410 MB if float32) and, for text, "
    "ice_text.model (about 2.7 MB). The package icetk downloads both into ~/.icetk_models when it "
    "is first used; then give IceTokenizer.load their paths, or --tokenizer icetk:FOLDER"
)


class IceTokenizer(FrameTokenizer):
    """Encode and decode frames and text.

    Attributes:
        config: sizes of the network.
        params: float32 arrays by their names here (`weights.py`).
        text: text ids, or None without a text model.
    """

    header_key = "icetk"
    suffixes = (".pt", ".pth")
    file_name = "ice_image.pt"

    def __init__(self, config: IceConfig, params: dict[str, Array], text: IceText | None = None):
        self.config = config
        self.params = params
        self.text = text

    @classmethod
    def load(
        cls,
        weights: str | os.PathLike | Mapping[str, Any],
        config: Mapping[str, Any] | None = None,
        text_model: str | os.PathLike | None = None,
    ) -> "IceTokenizer":
        """Read a tokenizer.

        Args:
            weights: icetk's ice_image.pt or another file of torch.save with its state dict, bare
                or under "module"; a .safetensors file of the same names, such as `save` writes;
                or a mapping from names to arrays.
            config: IceConfig's fields by name, all of them; others are ignored. None means the
                file's own config if it has one, and icetk's otherwise.
            text_model: icetk's ice_text.model.

        Raises:
            FileNotFoundError: no such file; the message says where people get icetk's.
            ValueError: a damaged file, one that asks for anything but tensors, missing, unknown
                or misshapen tensors, or a config that is not the file's.
        """
        if not isinstance(weights, Mapping) and not Path(weights).is_file():
            raise FileNotFoundError(f"no file {weights}: {_FILES}")
        if text_model is not None and not Path(text_model).is_file():
            raise FileNotFoundError(f"no file {text_model}: {_FILES}")
        tensors, own = _read(weights)
        sizes = _config(config) if config is not None else own or IceConfig()
        source = "the mapping of weights" if isinstance(weights, Mapping) else str(weights)
        if own not in (None, sizes):
            raise ValueError(f"{source} is of {own}, got the config {sizes}")
        text = None if text_model is None else IceText.load(text_model)
        return cls(sizes, icetk_weights.params_of(tensors, sizes, source), text)

    @classmethod
    def from_file(cls, path: Path) -> "IceTokenizer":
        """Read a file of weights, and an ice_text.model if one lies beside it. Raises as `load`."""
        text = path.parent / "ice_text.model"
        return cls.load(path, text_model=text if text.is_file() else None)

    def save(self, path: str | os.PathLike) -> None:
        """Write the weights as safetensors by icetk's names, with the config in the header.

        Tensors whose every value float16 can hold are stored as float16, others as float32. The
        text model stays a file of its own.
        """
        tensors = {
            name: np.ascontiguousarray(_shortened(tensor))
            for name, tensor in icetk_weights.tensors_of(self.params).items()
        }
        header = {self.header_key: json.dumps(to_json(self.config))}
        with replacing(Path(path)) as temporary:
            safetensors.numpy.save_file(tensors, temporary, metadata=header)

    @property
    def codebook_size(self) -> int:
        """Number of image ids."""
        return self.config.n_embed

    @property
    def downsample(self) -> int:
        """Pixels per id along each side, at the rate that is the default everywhere."""
        return 8

    @property
    def reach(self) -> int:
        """How many ids away a changed pixel can change an id: there is no limit.

        The encoder normalizes and attends over the whole frame, so that an id may change although
        its own pixels do not. Larger than any grid.
        """
        return sys.maxsize

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with the config or the weights."""
        return self._fingerprint

    def encode(
        self, frames: UInt8[np.ndarray, "B Y X 3"], rate: int = 8
    ) -> Int[np.ndarray, "B h w"]:
        """Ids of single frames, int32. Every id depends on the whole of its frame, on no other.

        Args:
            frames: of any size that is a multiple of `rate`.
            rate: pixels per id along each side: 4, 8 or 16.

        Raises:
            ValueError: another rate, not uint8 [B, Y, X, 3], or a size that does not fit.
        """
        _check_rate(rate)
        check_frames(frames, rate)
        return _batched(lambda part: _nearest(self.params, self._latent(part, rate)), frames)

    def latent(
        self, frames: UInt8[np.ndarray, "B Y X 3"], rate: int = 8
    ) -> Float[np.ndarray, "B h w d"]:
        """The vectors, float32, of which `encode` gives the nearest codes. Raises like `encode`."""
        _check_rate(rate)
        check_frames(frames, rate)
        return _batched(functools.partial(self._latent, rate=rate), frames)

    def encode_clips(
        self, clips: Sequence[UInt8[np.ndarray, "_F _Y _X 3"]], rate: int = 8
    ) -> list[Int[np.ndarray, "_F _h _w"]]:
        """Ids of clips' frames in time order; lengths and sizes may differ from clip to clip.

        Frames of one size share batches, whichever clips they are from. There is no hysteresis,
        which needs codes that lie in an order: these do not.
        """
        _check_rate(rate)
        for clip in clips:
            check_frames(clip, rate)
        ids: list[Any] = [None] * len(clips)
        for size in {clip.shape[1:] for clip in clips}:
            same = [i for i, clip in enumerate(clips) if clip.shape[1:] == size]
            together = self.encode(np.concatenate([clips[i] for i in same]), rate)
            ends = np.cumsum([len(clips[i]) for i in same])[:-1]
            for i, part in zip(same, np.split(together, ends)):
                ids[i] = part
        return ids

    def decode(self, ids: Int[np.ndarray, "B h w"], rate: int = 8) -> UInt8[np.ndarray, "B Y X 3"]:
        """Frames of ids, `rate` pixels for each along both sides. Raises like `decode_float`."""
        pixels = np.clip(self.decode_float(ids, rate), 0, 1)
        return np.round(pixels * 255).astype(np.uint8)

    def decode_float(
        self, ids: Int[np.ndarray, "B h w"], rate: int = 8
    ) -> Float[np.ndarray, "B Y X 3"]:
        """Frames of ids in float32 where 0..1 is the range of pixels; not clipped to it.

        Raises:
            ValueError: a rate other than 4, 8 and 16, or ids outside 0..codebook_size - 1.
        """
        _check_rate(rate)
        ids = np.asarray(ids)
        check_ids(ids, self.codebook_size)
        decode = functools.partial(_decode, self.config, rate, self.params)
        return _batched(decode, ids.astype(np.int32), rate)

    def _latent(self, frames: np.ndarray, rate: int) -> Array:
        features = _features(self.config, self.params, frames)
        return _latent(self.config, rate, self.params, features)

    def encode_text(self, text: str) -> list[int]:
        """Ids of a text, from 20,000 on.

        Raises:
            ValueError: the tokenizer was loaded without a text model.
        """
        if self.text is None:
            raise ValueError(
                "this tokenizer has no text model; give IceTokenizer.load text_model="
                "PATH/ice_text.model"
            )
        return self.text.encode(text)

    @functools.cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps(to_json(self.config)).encode())
        for name, tensor in icetk_weights.tensors_of(self.params).items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(tensor).data)
        return digest.hexdigest()[:12]


# There is no bfloat16 here: run in it, 1.5 to 3% of the ids are others (measured with random
# weights of the full size at 64 and 160 px, all three rates).
@functools.partial(jax.jit, static_argnums=0)
def _features(config: IceConfig, params: dict, frames: Array) -> Array:
    pixels = (frames.astype(jnp.float32) / 255 - _MEAN) / _STD
    return with_parameters(config, params).enc(pixels)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _latent(config: IceConfig, rate: int, params: dict, features: Array) -> Array:
    return with_parameters(config, params).latent(features, rate)


@jax.jit
def _nearest(params: dict, latent: Array) -> Array:
    return nearest(latent, params["quantize.embed.embedding"])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _decode(config: IceConfig, rate: int, params: dict, ids: Array) -> Array:
    return with_parameters(config, params).pixels(ids, rate) * _STD + _MEAN


def _batched(function, inputs: np.ndarray, rate: int = 1) -> np.ndarray:
    """Batches of a size that suits the frames; an element of the input is `rate` px a side."""
    return batched(function, inputs, _frames_per_call(inputs.shape[1] * inputs.shape[2] * rate**2))


def _frames_per_call(pixels: int) -> int:
    """How many frames of that many pixels one call takes.

    On a CPU, where a frame of 160x160 px is seconds of arithmetic, batches gain nothing and
    padding them would cost. Elsewhere the widest activations of a batch have 0.2 GB.
    """
    return 1 if jax.default_backend() == "cpu" else max(1, _PIXELS // pixels)


def _read(weights: Any) -> tuple[Mapping[str, Any], IceConfig | None]:
    """Tensors by icetk's names, and the config that the file says it is of."""
    if isinstance(weights, Mapping):
        return weights, None
    path = Path(weights)
    if path.suffix != ".safetensors":
        return state_dict(read_checkpoint(path), path), None
    tensors, header = read_safetensors(path)
    key = IceTokenizer.header_key
    return tensors, _config(json.loads(header[key])) if key in header else None


def _config(values: Mapping[str, Any]) -> IceConfig:
    """IceConfig of its fields' values. All are asked for, so that no misspelt one passes."""
    names = list(to_json(IceConfig()))
    missing = [name for name in names if name not in values]
    if missing:
        raise ValueError(f"icetk's config must have {', '.join(names)}; missing: {missing}")
    return from_json(IceConfig, {name: values[name] for name in names})


def _shortened(tensor: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = tensor.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), tensor) else tensor


def _check_rate(rate: int) -> None:
    if rate not in RATES:
        raise ValueError(f"rate must be 4, 8 or 16, got {rate}")
