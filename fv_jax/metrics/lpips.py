"""LPIPS: how different two frames look to a network that knows photographs (arXiv:1801.03924).

    pixels -> (x - shift) / scale -> [pool] conv ReLU ... -> five taps
    tap       its features, scaled to length 1 at every position, of frame a minus those of b,
              squared, summed over channels with the weights w >= 0 that people's judgements fit
    score     the taps' means over the frame, summed; 0 for equal frames (to 1e-12: rounding)

    lpips = LPIPS.load("alexnet.safetensors", "heads.safetensors")
    lpips(real, fake)                       # a number for two sets of videos
    jnp.mean(lpips.distance(real, fake))    # a training loss, pixels in [-1, 1]

Nothing is downloaded. Both files keep torch's names and layouts (`torch.load(...)`, then
`safetensors.torch.save_file`): torchvision's AlexNet (alexnet-owt-7be5be79.pth) or VGG16
(vgg16-397923af.pth), and the v0.1 heads of richzhang/PerceptualSimilarity. A number means little
without its network's name: AlexNet's and VGG16's do not compare.
"""

import dataclasses
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, struct
from jaxtyping import Array, Float, UInt8

from fv_jax.weights import read_safetensors

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_EPSILON = 1e-10  # beside the length, not under its root
_NO_LENGTH = 1e-30  # a squared length so far below the epsilon's that it counts as 0

_TRUNK_SOURCE = (
    "LPIPS needs ImageNet weights of AlexNet (alexnet-owt-7be5be79.pth) or VGG16 "
    "(vgg16-397923af.pth) from https://download.pytorch.org/models, saved as .safetensors or .npz"
)
_HEADS_SOURCE = (
    "LPIPS needs its v0.1 heads, alex.pth or vgg.pth of lpips/weights/v0.1 in "
    "https://github.com/richzhang/PerceptualSimilarity, saved as .safetensors or .npz"
)

Tensors = Mapping[str, Any]  # torch's name -> array


@dataclasses.dataclass(frozen=True)
class _Conv:
    """A convolution and its ReLU, with the max-pool before it.

    Attributes:
        index: of the convolution in torchvision's `features`.
        pool: px of the pool's window, which moves by 2; 0 for none.
        tap: whether LPIPS looks at the result.
    """

    index: int
    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    pool: int = 0
    tap: bool = True


@dataclasses.dataclass(frozen=True)
class _Net:
    convs: tuple[_Conv, ...]
    least: int  # px: smaller frames vanish in the pools


def _vgg_stage(index: int, channels: int, convs: int, pool: int = 2) -> tuple[_Conv, ...]:
    return tuple(
        _Conv(index + 2 * i, channels, pool=0 if i else pool, tap=i == convs - 1)
        for i in range(convs)
    )


_NETS = {
    "alexnet": _Net(
        (
            _Conv(0, 64, kernel=11, stride=4, padding=2),
            _Conv(3, 192, kernel=5, padding=2, pool=3),
            _Conv(6, 384, pool=3),
            _Conv(8, 256),
            _Conv(10, 256),
        ),
        least=31,
    ),
    "vgg16": _Net(
        (
            *_vgg_stage(0, 64, 2, pool=0),
            *_vgg_stage(5, 128, 2),
            *_vgg_stage(10, 256, 3),
            *_vgg_stage(17, 512, 3),
            *_vgg_stage(24, 512, 3),
        ),
        least=16,
    ),
}


@struct.dataclass
class LPIPS:
    """A trunk and its heads: a pytree. Give it to `jax.jit` as an argument.

    Closed over instead, its weights become constants of the compiled program (VGG16: 59 MB).

    Attributes:
        kernels: of the convolutions in turn, HWIO float32.
        biases: likewise, [channels] float32.
        heads: weights of the five taps, [channels] float32 each.
        net: "alexnet" or "vgg16".
        upsample: whether each tap's map is made as large as the frame before its mean is taken,
            as the video papers' common tool does (JunyaoHu/common_metrics_on_video_quality);
            False: the mean of the small map. They differ by some 1e-5 at 64 px.
    """

    kernels: tuple[Any, ...]
    biases: tuple[Any, ...]
    heads: tuple[Any, ...]
    net: str = struct.field(pytree_node=False)
    upsample: bool = struct.field(pytree_node=False, default=True)

    @classmethod
    def load(
        cls,
        trunk: str | os.PathLike | Tensors,
        heads: str | os.PathLike | Tensors,
        upsample: bool = True,
    ) -> "LPIPS":
        """Read weights; which network they are shows in their shapes.

        Args:
            trunk: a .safetensors or .npz file, or a mapping, of `features.{i}.weight` (OIHW) and
                `.bias`, any float type; the classifier may be there and is not used.
            heads: likewise, of `lin{0..4}.model.1.weight` [1, C, 1, 1].
            upsample: see the class.

        Raises:
            FileNotFoundError: no such file; says what should be there and where people get it.
            ValueError: a file that cannot be read; missing, unknown or misshapen tensors; heads
                of another network.
        """
        convs = _read(trunk, r"features\.", _TRUNK_SOURCE)
        name = "the trunk" if isinstance(trunk, Mapping) else str(trunk)
        net = _recognised(convs, name)
        _check(convs, _trunk_shapes(net), f"{name} does not fit {net}")
        weights = _read(heads, r"lin\d+\.", _HEADS_SOURCE)
        name = "the mapping" if isinstance(heads, Mapping) else str(heads)
        _check(weights, _head_shapes(net), f"{name} does not hold the heads of {net}")
        float32 = lambda value: jnp.asarray(value, jnp.float32)
        indices = [conv.index for conv in _NETS[net].convs]
        return cls(
            tuple(float32(convs[f"features.{i}.weight"].transpose(2, 3, 1, 0)) for i in indices),
            tuple(float32(convs[f"features.{i}.bias"]) for i in indices),
            tuple(float32(weights[name].reshape(-1)) for name in _head_shapes(net)),
            net,
            upsample,
        )

    def __call__(
        self,
        real: UInt8[np.ndarray, "*n Y X 3"],
        fake: UInt8[np.ndarray, "*n Y X 3"],
        batch: int = 16,
    ) -> float:
        """Mean distance over all frames of videos [N, T, Y, X, 3] or images [B, Y, X, 3].

        Args:
            real: the one set.
            fake: the other.
            batch: frames whose features are in memory at a time.

        Raises:
            ValueError: as `per_frame`.
        """
        return float(self.per_frame(real, fake, batch).mean(dtype=np.float64))

    def per_frame(
        self,
        real: UInt8[np.ndarray, "*n Y X 3"],
        fake: UInt8[np.ndarray, "*n Y X 3"],
        batch: int = 16,
    ) -> Float[np.ndarray, "*n"]:
        """Distance of each frame, float32, with matmuls of full float32 precision.

        Raises:
            ValueError: not two sets of uint8 frames of the same shape, no frame, frames below
                the network's least size, or a batch below 1.
        """
        if real.dtype != np.uint8 or fake.dtype != np.uint8:
            raise ValueError(f"frames must be uint8, got {real.dtype} and {fake.dtype}")
        if real.ndim < 4 or real.size == 0:
            raise ValueError(f"videos must be [N, T, Y, X, 3] with a frame, got {real.shape}")
        if batch < 1:
            raise ValueError(f"batch must be >= 1, got {batch}")
        self._check_shapes(real.shape, fake.shape)
        real_frames, fake_frames = (x.reshape(-1, *x.shape[-3:]) for x in (real, fake))
        size = min(batch, len(real_frames))
        scores = np.empty(len(real_frames), np.float32)
        # Otherwise GPUs and TPUs would round to TF32 or bfloat16.
        with jax.default_matmul_precision("highest"):
            for start in range(0, len(scores), size):
                part = slice(start, start + size)
                padded = (_padded(x[part], size) for x in (real_frames, fake_frames))
                scores[part] = np.asarray(_byte_distance(self, *padded))[: len(scores[part])]
        return scores.reshape(real.shape[:-3])

    def distance(self, a: Float[Array, "B Y X 3"], b: Float[Array, "B Y X 3"]) -> Float[Array, "B"]:
        """Distance of each pair of frames, as a pure function for `jax.grad` and `jax.jit`.

        Gradients are finite everywhere. The matmul precision is the caller's to choose (see
        `jax.default_matmul_precision`).

        Args:
            a: pixels in [-1, 1], float32 (float64 stays so, anything narrower is widened).
            b: likewise.

        Raises:
            ValueError: pixels that are no floats, or unfit shapes, as for `per_frame`.
        """
        if not all(jnp.issubdtype(x.dtype, jnp.floating) for x in (a, b)):
            raise ValueError(f"pixels must be floats in [-1, 1], got {a.dtype} and {b.dtype}")
        self._check_shapes(a.shape, b.shape)
        dtype = jnp.promote_types(jnp.promote_types(a.dtype, b.dtype), jnp.float32)
        taps = zip(self._taps(a.astype(dtype)), self._taps(b.astype(dtype)), self.heads)
        scores = []
        for tap_a, tap_b, head in taps:
            squares = jnp.square(_unit(tap_a) - _unit(tap_b))
            rows, columns = (
                jnp.asarray(self._shares(small, large), dtype)
                for small, large in zip(tap_a.shape[1:3], a.shape[1:3])
            )
            seen = jnp.einsum("byxc,c->byx", squares, head.astype(dtype))
            scores.append(jnp.einsum("byx,y,x->b", seen, rows, columns))
        return sum(scores[1:], scores[0])

    def _taps(self, pixels: Float[Array, "B Y X 3"]) -> list[Float[Array, "B _ _ _"]]:
        x = (pixels - jnp.asarray(_SHIFT, pixels.dtype)) / jnp.asarray(_SCALE, pixels.dtype)
        taps = []
        for conv, kernel, bias in zip(_NETS[self.net].convs, self.kernels, self.biases):
            if conv.pool:
                x = nnx.max_pool(x, (conv.pool, conv.pool), strides=(2, 2))
            x = jax.lax.conv_general_dilated(
                x,
                kernel.astype(x.dtype),
                window_strides=(conv.stride, conv.stride),
                padding=[(conv.padding, conv.padding)] * 2,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            x = jax.nn.relu(x + bias.astype(x.dtype))
            if conv.tap:
                taps.append(x)
        return taps

    def _shares(self, small: int, large: int) -> Float[np.ndarray, "_"]:
        """How much each of a map's rows counts in the mean over the frame; they sum to 1."""
        if not self.upsample:
            return np.full(small, 1 / small)
        # The mean of a bilinear image is linear in the small map, so no large one is made.
        # Pixel centres are at halves; beyond the outermost ones the edge goes on.
        at = (np.arange(large) + 0.5) * small / large - 0.5
        return np.array([np.interp(at, np.arange(small), row).mean() for row in np.eye(small)])

    def _check_shapes(self, a: tuple[int, ...], b: tuple[int, ...]) -> None:
        if a != b:
            raise ValueError(f"videos must have the same shape, got {a} and {b}")
        if len(a) < 4 or a[-1] != 3:
            raise ValueError(f"frames must be [..., Y, X, 3], got {a}")
        least = _NETS[self.net].least
        if min(a[-3:-1]) < least:
            raise ValueError(
                f"LPIPS with {self.net} needs frames of at least {least}x{least} px, got "
                f"{a[-3]}x{a[-2]}"
            )


@jax.jit
def _byte_distance(lpips: LPIPS, real: UInt8[Array, "B Y X 3"], fake: UInt8[Array, "B Y X 3"]):
    return lpips.distance(*(2 * (x.astype(jnp.float32) / 255) - 1 for x in (real, fake)))


def _unit(x: Float[Array, "B h w C"]) -> Float[Array, "B h w C"]:
    """Features over their length.

    The root's slope at 0 is infinite, and float32 squares of features below 1e-23 are 0. So a
    length that small is the constant 0; beside the epsilon it is nothing anyway. (Where the
    features are exactly 0, the ReLU before stops all gradients.)
    """
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    some = square > _NO_LENGTH
    length = jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), 0)
    return x / (length + _EPSILON)


def _padded(frames: np.ndarray, size: int) -> np.ndarray:
    """`frames` and as many black ones as `size` lacks, so that one compiled program does."""
    missing = size - len(frames)
    return np.pad(frames, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else frames


def _read(source: str | os.PathLike | Tensors, wanted: str, help: str) -> dict[str, np.ndarray]:
    """The tensors whose names begin with the pattern `wanted`."""
    if isinstance(source, Mapping):
        tensors = source
    else:
        path = Path(source)
        if not path.is_file():
            raise FileNotFoundError(f"no file {path}: {help}")
        if path.suffix not in (".safetensors", ".npz"):
            raise ValueError(f"{path} must be .safetensors or .npz: {help}")
        tensors = read_safetensors(path)[0] if path.suffix == ".safetensors" else _read_npz(path)
    return {k: np.asarray(v) for k, v in tensors.items() if re.match(wanted, k)}


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as file:
            return dict(file)
    # A .npy under that name has no names, hence TypeError.
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged or no npz file ({error})") from error


def _recognised(tensors: dict[str, np.ndarray], source: str) -> str:
    first = {_trunk_shapes(net)["features.0.weight"]: net for net in _NETS}
    found = tensors["features.0.weight"].shape if "features.0.weight" in tensors else "none"
    if found not in first:
        wanted = " or ".join(f"{shape} ({net})" for shape, net in first.items())
        raise ValueError(
            f"{source} is neither AlexNet nor VGG16: features.0.weight must be {wanted}, "
            f"got {found}"
        )
    return first[found]


def _trunk_shapes(net: str) -> dict[str, tuple[int, ...]]:
    shapes, before = {}, 3
    for conv in _NETS[net].convs:
        shapes[f"features.{conv.index}.weight"] = (conv.channels, before, conv.kernel, conv.kernel)
        shapes[f"features.{conv.index}.bias"] = (conv.channels,)
        before = conv.channels
    return shapes


def _head_shapes(net: str) -> dict[str, tuple[int, ...]]:
    taps = [conv.channels for conv in _NETS[net].convs if conv.tap]
    return {f"lin{i}.model.1.weight": (1, channels, 1, 1) for i, channels in enumerate(taps)}


def _check(
    tensors: dict[str, np.ndarray], want: dict[str, tuple[int, ...]], complaint: str
) -> None:
    got = {name: tensor.shape for name, tensor in tensors.items()}
    wrong = sorted(name for name in want | got if want.get(name) != got.get(name))
    if wrong:
        shown = ", ".join(f"{n} (want {want.get(n)}, got {got.get(n)})" for n in wrong[:3])
        raise ValueError(f"{complaint}: {len(wrong)} tensors, e.g. {shown}")
