"""I3D as FVD uses it: from videos to the 400 class logits, before softmax, averaged over time.

    i3d = I3D.load("i3d.safetensors")       # the user's own file; nothing is downloaded
    i3d.features(videos)                    # [N, 400]; videos as in `videos.py`
    i3d.logits(pixels)                      # a pure function for jax.jit

How frames come to 224x224 px (`resize`), always without antialias:

    half_pixel        the shorter side is scaled to 224, bilinearly with pixel centers at halves,
                      and the middle is cut out: the common tools (VideoGPT, StyleGAN-V's path in
                      JunyaoHu/common_metrics_on_video_quality 5f75173)
    legacy_bilinear   both sides are scaled to 224, whatever the shape, as TensorFlow 1 does it,
                      pixels at their upper left corners: Google's original
                      (frechet_video_distance) and MAGVIT. Reads some 2% higher

Then they are scaled to [-1, 1]. Float pixels are taken as they are, where VideoGPT's and TATS's
tools cut them down to whole levels first; uint8 pixels, which all of this is for, are the same.

Batch norm's epsilon: 0.001 in the network as published (TF hub's graph) and in MAGVIT; torch ports
(VideoGPT, TATS, cd-fvd) have 1e-5 by mistake: `bn_epsilon=1e-5` gives their numbers.
"""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from fv_jax.config.registry import require_known
from fv_jax.metrics import i3d_network
from fv_jax.metrics.device_batches import DeviceBatches, on_every
from fv_jax.metrics.i3d_network import LEAST_FRAMES, SIDE
from fv_jax.metrics.videos import Checker, Videos, named, unit
from fv_jax.metrics.weights import i3d as i3d_weights
from fv_jax.metrics.weights.files import I3D_SOURCE, origin, read_tensors
from fv_jax.metrics.weights.i3d import Verdict
from fv_jax.metrics.weights.published import add_smoke, unpublished

RESIZES = ("half_pixel", "legacy_bilinear")
BATCH = 8  # clips on each device at a time
# FVD of ten frames of black against ten of white, as the tool's README reports it for StyleGAN-V's
# copy of the published weights.
SMOKE_VALUE, _SMOKE_TOLERANCE = 569.22963, 0.01


@struct.dataclass
class I3D:
    """The network and its weights: a pytree. Give it to `jax.jit` as an argument.

    Attributes:
        convolutions: kernel [t, y, x, in, out] and bias [out] by name, batch norm folded in.
        bn_epsilon: that was folded in.
        verdict: whether these are the published weights.
        resize: how frames come to 224x224 px.
    """

    convolutions: dict[str, tuple[Any, Any]]
    bn_epsilon: float = struct.field(pytree_node=False)
    verdict: Verdict = struct.field(pytree_node=False)
    resize: str = struct.field(pytree_node=False, default="half_pixel")

    @classmethod
    def load(
        cls,
        weights: str | os.PathLike | Mapping[str, Any],
        bn_epsilon: float = 1e-3,
        resize: str = "half_pixel",
    ) -> "I3D":
        """Read weights, any that fit the network; `verdict` says whether they are FVD's.

        Args:
            weights: a .safetensors, .npz or torch file of torch's names (`i3d_weights.py`),
                TensorFlow's data file, or a mapping from torch's names to arrays.
            bn_epsilon: beside the variance under batch norm's root; see the module.
            resize: "half_pixel" or "legacy_bilinear"; see the module.

        Raises:
            FileNotFoundError: no such file; says what should be there and where people get it.
            ValueError: a file of something else, missing or misshapen tensors, the wrong I3D
                (rgb_imagenet, optical flow, other classes), an epsilon outside [0, 1), or no
                such resize.
        """
        require_known("resize", resize, RESIZES)
        if not 0 <= bn_epsilon < 1:
            raise ValueError(f"bn_epsilon must be in [0, 1), got {bn_epsilon:g}")
        source = "the mapping of weights" if isinstance(weights, Mapping) else str(weights)
        tensors = i3d_weights.complete(_read(weights), source)
        verdict = i3d_weights.verdict(tensors, source)
        convolutions = i3d_weights.folded(tensors, bn_epsilon)
        return cls(
            {k: (jnp.asarray(w), jnp.asarray(b)) for k, (w, b) in convolutions.items()},
            float(bn_epsilon),
            verdict,
            resize,
        )

    @classmethod
    def published(
        cls,
        path: str | os.PathLike,
        *,
        bn_epsilon: float = 1e-3,
        resize: str = "half_pixel",
        allow_unverified: bool = False,
    ) -> tuple["I3D", dict[str, Any]]:
        """FVD's network, every tensor of it compared with the published checksums.

        Args:
            path: a file that `load` reads.
            bn_epsilon: as `load`.
            resize: likewise.
            allow_unverified: take others too, fine-tuned ones say; the record tells.

        Returns:
            The network, on every device, and {"path", "bytes", "sha256", "git_blob", "known",
            "verified", "verdict", "bn_epsilon", "resize", "smoke": None or {"value", "expected",
            "agrees"}, "cautions"}; the smoke value, two clips, is computed of verified weights.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a file of something else, damaged, the wrong I3D, or not published (unless
                allowed).
        """
        tensors, header = read_tensors(path, I3D_SOURCE)
        tensors = i3d_weights.complete(tensors, str(path))
        i3d = on_every(cls.load(tensors, bn_epsilon, resize))
        verified, text = i3d.verdict
        record = {
            **dataclasses.asdict(origin(path, header, tensors)),
            "verified": verified,
            "verdict": text,
            "bn_epsilon": bn_epsilon,
            "resize": resize,
            "smoke": None,
            "cautions": [] if verified else [unpublished(f"{path} is {text}", allow_unverified)],
        }
        if verified:
            value = i3d.smoke_value()
            add_smoke(record, "FVD", value, SMOKE_VALUE, i3d.smoke_agrees(value))
        return i3d, record

    def logits(self, pixels: Float[Array, "B F 224 224 3"]) -> Float[Array, "B 400"]:
        """Logits of pixels in [-1, 1], at least 9 frames; the matmul precision is the caller's."""
        return i3d_network.logits(self.convolutions, pixels)

    def features(
        self,
        videos: Videos,
        *,
        batch: int = BATCH,
        devices: Sequence[jax.Device] | None = None,
        check: Checker | None = None,
    ) -> Float[np.ndarray, "N 400"]:
        """Logits of every clip, float32, computed in full float32 precision.

        Args:
            videos: clips [F, Y, X, 3] of uint8 or floats in [0, 1], all of one shape, F >= 9.
            batch: clips on each device at a time.
            devices: all of this process by default.
            check: what the clips must be, from `checker`, where another set has a say in it.

        Raises:
            ValueError: no clips, fewer than 9 frames, clips of other shapes than the first one's,
                pixels that are neither uint8 nor floats in [0, 1]. It names the clip.
        """
        check = check or self.checker()
        parts: list[np.ndarray] = []
        batches = DeviceBatches(_to_logits, self, parts.append, size=batch, devices=devices)
        for clip in named(videos, "videos"):
            batches.add(check(clip).frames)
        batches.finish()
        return np.concatenate(parts)

    @staticmethod
    def checker(like: Checker | None = None) -> Checker:
        """What this network's clips must be, all of one shape: that of `like`'s, if given."""
        return Checker(least_frames=LEAST_FRAMES, purpose="FVD (its network I3D)", like=like)

    def smoke_value(self) -> float:
        """FVD of ten black frames against ten white ones: two clips through the whole network.

        With the published weights StyleGAN-V's tool gives 569.23 (`SMOKE_VALUE`), which this
        should come within 1% of (`smoke_agrees`).
        """
        clips = (np.full((10, 64, 64, 3), level, np.uint8) for level in (0, 255))
        black, white = self.features(clips).astype(np.float64)
        return float(np.sum((black - white) ** 2))

    @staticmethod
    def smoke_agrees(value: float) -> bool:
        """Whether a smoke value is that of the published weights."""
        return bool(abs(value / SMOKE_VALUE - 1) < _SMOKE_TOLERANCE)


def preprocessed(videos: Array, resize: str = "half_pixel") -> Float[Array, "B F 224 224 3"]:
    """What I3D sees, in [-1, 1]; for use under jit.

    Args:
        videos: [B, F, Y, X, 3], uint8 or floats in [0, 1].
        resize: see the module.
    """
    pixels = unit(videos)
    legacy = resize == "legacy_bilinear"
    short = min(videos.shape[2:4])
    rows, columns = (
        _legacy_shares(size) if legacy else _shares(size, short) for size in videos.shape[2:4]
    )
    pixels = jnp.einsum("btyxc,Yy->btYxc", pixels, rows)
    pixels = jnp.einsum("btYxc,Xx->btYXc", pixels, columns)
    return 2 * pixels - 1


def _shares(size: int, short: int) -> Float[np.ndarray, "224 size"]:
    """How much each row (or column) counts in each row of the middle."""
    # The tool computes the longer side with this expression, rounding included.
    new = SIDE if size == short else math.ceil(size * (SIDE / short))
    first = (new - SIDE) // 2
    return _bilinear((np.arange(first, first + SIDE) + 0.5) * size / new - 0.5, size)


def _legacy_shares(size: int) -> Float[np.ndarray, "224 size"]:
    return _bilinear(np.arange(SIDE) * size / SIDE, size)


def _bilinear(at: np.ndarray, size: int) -> Float[np.ndarray, "seen size"]:
    """The share of each of `size` pixels in what is seen at `at`; beyond the edge it goes on."""
    places = np.arange(size)
    shares = np.stack([np.interp(at, places, one) for one in np.eye(size)], axis=1)
    return shares.astype(np.float32)


@jax.jit
def _to_logits(i3d: I3D, videos: Array) -> Float[Array, "B 400"]:
    return i3d.logits(preprocessed(videos, i3d.resize))


def _read(weights: str | os.PathLike | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(weights, Mapping):
        return weights
    return read_tensors(weights, I3D_SOURCE)[0]
