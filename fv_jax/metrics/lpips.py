"""LPIPS: how different two frames look to a network that knows photographs (arXiv:1801.03924).

    pixels -> (x - shift) / scale -> [pool] conv ReLU ... -> five taps
    tap       its features, scaled to length 1 at every position, of frame a minus those of b,
              squared, summed over channels with the weights w >= 0 that people's judgments fit
    score     the taps' means over the frame, each map enlarged to the frame's size first as the
              video papers' common tool does, summed; 0 for equal frames (to 1e-12: rounding)

    lpips = LPIPS.load("alexnet.safetensors", "heads.safetensors")
    lpips(real, fake)                       # a number for two sets of videos
    jnp.mean(lpips.distance(real, fake))    # a training loss, pixels in [-1, 1]

The score of a video is the mean over its frames. Pixels become [-1, 1] here, whatever the caller
has: given [0, 1] the networks answer a tenth of the distance without complaint.

Nothing is downloaded: trunk and heads are the user's own files (`lpips_weights.py`), torchvision's
AlexNet (alexnet-owt-7be5be79.pth) or VGG16 (vgg16-397923af.pth) and the v0.1 heads of
richzhang/PerceptualSimilarity. A number means little without its network's name: AlexNet's (the
common tool's default) and VGG16's (MAGVIT, following MCVD) do not compare.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx, struct
from jaxtyping import Array, Float

from fv_jax.metrics.device_batches import on_every
from fv_jax.metrics.frame_scores import BATCH, FrameMetric, mean_score, per_frame
from fv_jax.metrics.interface import Weights
from fv_jax.metrics.videos import AnyFrames, Videos, unit
from fv_jax.metrics.weights import lpips as lpips_weights
from fv_jax.metrics.weights.files import origin, read_tensors
from fv_jax.metrics.weights.lpips import NETS, Tensors
from fv_jax.metrics.weights.published import add_smoke, unpublished

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_EPSILON = 1e-10  # beside the length, not under its root
_NO_LENGTH = 1e-30  # a squared length so far below the epsilon's that it counts as 0

# Black against white frames with the published AlexNet and heads, 64x64 px, as the README of
# JunyaoHu/common_metrics_on_video_quality reports it.
SMOKE_VALUES, _SMOKE_TOLERANCE = {"alexnet": 0.8140090703964233}, 1e-4


@struct.dataclass
class LPIPS:
    """A trunk and its heads: a pytree. Give it to `jax.jit` as an argument.

    Closed over instead, its weights become constants of the compiled program (VGG16: 59 MB).

    Attributes:
        kernels: of the convolutions in turn, HWIO float32.
        biases: likewise, [channels] float32.
        heads: weights of the five taps, [channels] float32 each.
        net: "alexnet" or "vgg16".
    """

    kernels: tuple[Any, ...]
    biases: tuple[Any, ...]
    heads: tuple[Any, ...]
    net: str = struct.field(pytree_node=False)

    @classmethod
    def load(
        cls,
        trunk: str | os.PathLike | Tensors,
        heads: str | os.PathLike | Tensors,
    ) -> "LPIPS":
        """Read weights; which network they are shows in their shapes.

        Args:
            trunk: a .safetensors, .npz, .pt or .pth file, or a mapping, of `features.{i}.weight`
                (OIHW) and `.bias`, any float type; a classifier may be there and is not used.
            heads: likewise, of `lin{0..4}.model.1.weight` [1, C, 1, 1].

        Raises:
            FileNotFoundError: no such file; says what should be there and where people get it.
            ValueError: a file that cannot be read; missing, unknown or misshapen tensors; heads
                of another network.
        """
        tensors, name = _read(trunk, lpips_weights.TRUNK_SOURCE, "the trunk")
        net, convs = lpips_weights.trunk(tensors, name)
        tensors, name = _read(heads, lpips_weights.HEADS_SOURCE, "the mapping")
        weights = lpips_weights.heads(tensors, net, name)
        float32 = lambda value: jnp.asarray(value, jnp.float32)
        indices = [conv.index for conv in NETS[net].convs]
        return cls(
            tuple(float32(convs[f"features.{i}.weight"].transpose(2, 3, 1, 0)) for i in indices),
            tuple(float32(convs[f"features.{i}.bias"]) for i in indices),
            tuple(float32(head.reshape(-1)) for head in weights.values()),
            net,
        )

    @classmethod
    def published(
        cls,
        trunk: str | os.PathLike,
        heads: str | os.PathLike,
        *,
        allow_unverified: bool = False,
    ) -> tuple["LPIPS", dict[str, Any]]:
        """The published network, known by its files' hashes or (AlexNet) by its smoke value.

        Args:
            trunk: a file that `load` reads.
            heads: likewise.
            allow_unverified: take others too; the record tells.

        Returns:
            The network, on every device, and {"net", "upsample", "trunk" and "heads": {"path",
            "bytes", "sha256", "git_blob", "known"}, "verified", "smoke": None or {"value",
            "expected", "agrees"}, "cautions"}; "expected" and "agrees" are None for VGG16.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a file of something else, damaged, heads of another network, or not
                published (unless allowed).
        """
        convs, trunk_header = read_tensors(trunk, lpips_weights.TRUNK_SOURCE)
        net, convs = lpips_weights.trunk(convs, str(trunk))
        tops, heads_header = read_tensors(heads, lpips_weights.HEADS_SOURCE)
        tops = lpips_weights.heads(tops, net, str(heads))
        lpips = on_every(cls.load(convs, tops))
        origins = origin(trunk, trunk_header, convs), origin(heads, heads_header, tops)
        value = lpips.smoke_value()
        agrees = lpips.smoke_agrees(value)
        unknown = " and ".join(came.path for came in origins if not came.known)
        verified = agrees is True or not unknown
        record: dict[str, Any] = {
            "net": net,
            "upsample": True,
            "trunk": dataclasses.asdict(origins[0]),
            "heads": dataclasses.asdict(origins[1]),
            "verified": verified,
            "smoke": None,
            "cautions": [],
        }
        if verified:
            add_smoke(record, "LPIPS", value, SMOKE_VALUES.get(net), agrees)
        else:
            what = f"{unknown}: of no known published file"
            record["cautions"].append(unpublished(what, allow_unverified))
        return lpips, record

    @property
    def name(self) -> str:
        """For messages."""
        return f"LPIPS with {self.net}"

    @property
    def least_size(self) -> int:
        """Px that both sides of a frame must have."""
        return NETS[self.net].least

    def __call__(self, real: Videos, fake: Videos, batch: int = BATCH) -> float:
        """Mean distance over all frames.

        Args:
            real: uint8 [N, F, Y, X, 3], images [B, Y, X, 3], or any iterable of clips
                (`videos.py`).
            fake: as many, of the same shape.
            batch: frames on each device whose features are in memory at a time.

        Raises:
            ValueError: as `frame_scores`.
        """
        one, other = (
            x[None] if isinstance(x, np.ndarray) and x.ndim == 4 else x for x in (real, fake)
        )
        return mean_score(self, one, other, batch)

    def per_frame(
        self, real: AnyFrames, fake: AnyFrames, batch: int = BATCH
    ) -> Float[np.ndarray, "*b"]:
        """Distance of each frame, float32, with matmuls of full float32 precision.

        Raises:
            ValueError: as `frame_scores`.
        """
        return per_frame(self, real, fake, batch)

    def scores(self, real: Array, fake: Array) -> Float[Array, " B"]:
        """Distance of each pair of frames of uint8 or of float32 in [0, 1]; pure."""
        return self.distance(2 * unit(real) - 1, 2 * unit(fake) - 1)

    def smoke_value(self) -> float:
        """The distance of a black frame from a white one, 64x64 px.

        With the published weights of AlexNet it is 0.81401 (`SMOKE_VALUES`; VGG16's is not
        known here).
        """
        black, white = (np.full((1, 64, 64, 3), level, np.uint8) for level in (0, 255))
        return float(self.per_frame(black, white)[0])

    def smoke_agrees(self, value: float) -> bool | None:
        """Whether a smoke value is that of the published weights; None where it is not known."""
        expected = SMOKE_VALUES.get(self.net)
        return None if expected is None else bool(abs(value - expected) < _SMOKE_TOLERANCE)

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
                jnp.asarray(_shares(small, large), dtype)
                for small, large in zip(tap_a.shape[1:3], a.shape[1:3])
            )
            seen = jnp.einsum("byxc,c->byx", squares, head.astype(dtype))
            scores.append(jnp.einsum("byx,y,x->b", seen, rows, columns))
        return sum(scores[1:], scores[0])

    def _taps(self, pixels: Float[Array, "B Y X 3"]) -> list[Float[Array, "B _ _ _"]]:
        x = (pixels - jnp.asarray(_SHIFT, pixels.dtype)) / jnp.asarray(_SCALE, pixels.dtype)
        taps = []
        for conv, kernel, bias in zip(NETS[self.net].convs, self.kernels, self.biases):
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

    def _check_shapes(self, a: tuple[int, ...], b: tuple[int, ...]) -> None:
        if a != b:
            raise ValueError(f"videos must have the same shape, got {a} and {b}")
        if len(a) < 4 or a[-1] != 3:
            raise ValueError(f"frames must be [..., Y, X, 3], got {a}")
        least = NETS[self.net].least
        if min(a[-3:-1]) < least:
            raise ValueError(
                f"LPIPS with {self.net} needs frames of at least {least}x{least} px, got "
                f"{a[-3]}x{a[-2]}"
            )


class LPIPSMetric(FrameMetric):
    """LPIPS as `fv evaluate` has it: with the weights of `rules.lpips_net`."""

    label, higher_is_better, digits = "LPIPS", False, ".3f"
    weights = (("lpips_trunk", "FV_LPIPS_TRUNK"), ("lpips_heads", "FV_LPIPS_HEADS"))

    def __init__(self, rules: Any, weights: Weights):
        trunk, heads = weights.files["lpips_trunk"], weights.files["lpips_heads"]
        lpips, record = LPIPS.published(trunk, heads, allow_unverified=weights.allow_unverified)
        if lpips.net != rules.lpips_net:
            raise ValueError(
                f"{trunk}: got weights of {lpips.net}, want {rules.lpips_net} "
                f"(profile {rules.profile}; --lpips-net changes it)"
            )
        self.measure, self.record = lpips, record
        hashes = " ".join(f"sha256:{record[part]['sha256']}" for part in ("trunk", "heads"))
        self.fingerprint = f"lpips 1 {lpips.net} upsample=True {hashes}"


def _shares(small: int, large: int) -> Float[np.ndarray, "_"]:
    """How much each of a map's rows counts in the mean over the frame; they sum to 1.

    The mean of a bilinear image is linear in the small map, so no large one is made.
    """
    # Pixel centers are at halves; beyond the outermost ones the edge goes on.
    at = (np.arange(large) + 0.5) * small / large - 0.5
    return np.array([np.interp(at, np.arange(small), row).mean() for row in np.eye(small)])


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


def _read(source: str | os.PathLike | Tensors, needs: str, unnamed: str) -> tuple[Tensors, str]:
    """The tensors, and what messages call them."""
    if isinstance(source, Mapping):
        return source, unnamed
    return read_tensors(source, needs)[0], str(source)
