"""What is computed: scores of pairs of clips, features of clips, and why something cannot be.

The rest of the package knows three small things, so that a metric is added here and nowhere else:

    PairScore           (real, fake) [N, T, Y, X, 3] -> a number for each pair
    FeatureExtractor    [N, T, Y, X, 3] -> [N, C], of which two sets have a distance
    Missing             the reason why there is neither

A number that cannot be computed is never 0: it is `Missing`, and null in the results.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, runtime_checkable
from typing import Protocol as Interface

import numpy as np
from jaxtyping import Float, UInt8

from fv_jax.evaluation.protocols import Protocol

I3D_VARIABLE, TRUNK_VARIABLE, HEADS_VARIABLE = "FV_I3D_WEIGHTS", "FV_LPIPS_TRUNK", "FV_LPIPS_HEADS"
# Part of every fingerprint: another one where a metric's code comes to other numbers.
_VERSION = 1
_LUMA = (0.2989, 0.587, 0.114)

Videos = UInt8[np.ndarray, "N T Y X 3"]


@dataclasses.dataclass(frozen=True)
class Missing:
    """Why a metric cannot be computed."""

    reason: str


@runtime_checkable
class PairScore(Interface):
    """A score of pairs."""

    @property
    def fingerprint(self) -> str:
        """Everything that the numbers depend on, such as hashes of weights."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Which of several fakes is the best."""
        ...

    @property
    def least_size(self) -> int:
        """Px that both sides of a frame must have."""
        ...

    def __call__(self, real: Videos, fake: Videos) -> Float[np.ndarray, " N"]: ...


@runtime_checkable
class FeatureExtractor(Interface):
    """A network whose features make the distance of two sets."""

    @property
    def fingerprint(self) -> str:
        """Everything that the features depend on."""
        ...

    @property
    def width(self) -> int:
        """C, numbers of a clip."""
        ...

    @property
    def least_frames(self) -> int:
        """That a clip must have."""
        ...

    @property
    def features(self) -> Callable[[Videos], Float[np.ndarray, "N C"]]:
        """Of each video, float64."""
        ...

    @property
    def distance(self) -> Callable[..., float]:
        """Of two sets of features, real and fake."""
        ...


@dataclasses.dataclass(frozen=True)
class FrameScore:
    """A `PairScore` made of a function of two sets of clips."""

    fingerprint: str
    higher_is_better: bool
    score: Callable[[Videos, Videos], Float[np.ndarray, " N"]]
    record: dict[str, Any] | None = None
    least_size: int = 1

    def __call__(self, real: Videos, fake: Videos) -> Float[np.ndarray, " N"]:
        return np.asarray(self.score(real, fake), np.float64)


@dataclasses.dataclass(frozen=True)
class Network:
    """A `FeatureExtractor` made of functions."""

    fingerprint: str
    width: int
    least_frames: int
    features: Callable[[Videos], Float[np.ndarray, "N C"]]
    distance: Callable[..., float]
    record: dict[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Weights:
    """Files of weights; where one is None, its environment variable says, or there are none.

    Attributes:
        allow_unverified: take others than the published ones.
    """

    i3d: Path | None = None
    lpips_trunk: Path | None = None
    lpips_heads: Path | None = None
    allow_unverified: bool = False

    @property
    def found(self) -> "Weights":
        """These, with what the environment says beside them."""
        told = lambda name: Path(os.environ[name]) if os.environ.get(name) else None
        return Weights(
            self.i3d or told(I3D_VARIABLE),
            self.lpips_trunk or told(TRUNK_VARIABLE),
            self.lpips_heads or told(HEADS_VARIABLE),
            self.allow_unverified,
        )


def frame_score(name: str, protocol: Protocol, weights: Weights) -> PairScore | Missing:
    """PSNR, SSIM or LPIPS as the protocol has it.

    Raises:
        FileNotFoundError: weights that were named are not there.
        ValueError: they are not what they should be.
    """
    from fv_jax.metrics.frame_quality import SSIM, psnr_per_frame, ssim_per_frame

    if name == "psnr":
        return FrameScore(
            f"psnr {_VERSION}", True, lambda real, fake: psnr_per_frame(real, fake).mean(-1)
        )
    if name == "ssim":
        prepared = _luma if protocol.ssim_colour == "luma" else lambda frames: frames
        each = lambda real, fake: ssim_per_frame(prepared(real), prepared(fake)).mean(-1)
        print_ = f"ssim {_VERSION} {protocol.ssim_colour}"
        return FrameScore(print_, True, each, least_size=SSIM.least_size)
    trunk, heads = weights.lpips_trunk, weights.lpips_heads
    if trunk is None or heads is None:
        lacks = [
            f"{flag} (or {variable})"
            for flag, variable, path in (
                ("--lpips-trunk", TRUNK_VARIABLE, trunk),
                ("--lpips-heads", HEADS_VARIABLE, heads),
            )
            if path is None
        ]
        return Missing(f"no weights: {' and '.join(lacks)} not given")
    from fv_jax.metrics.weights.published import published_lpips

    lpips, record = published_lpips(trunk, heads, allow_unverified=weights.allow_unverified)
    if lpips.net != protocol.lpips_net:
        raise ValueError(
            f"{trunk}: got weights of {lpips.net}, want {protocol.lpips_net} "
            f"(profile {protocol.profile}; --lpips-net changes it)"
        )
    how = f"{_VERSION} {lpips.net} upsample={lpips.upsample}"
    print_ = f"lpips {how} {_sha256(trunk)} {_sha256(heads)}"
    score = lambda real, fake: lpips.per_frame(real, fake).mean(-1)
    return FrameScore(print_, False, score, record, lpips.least_size)


def video_network(name: str, protocol: Protocol, weights: Weights) -> FeatureExtractor | Missing:
    """The network of FVD as the protocol has it, or of shapes-FVD.

    Raises:
        FileNotFoundError: weights that were named are not there.
        ValueError: they are not what they should be.
    """
    from fv_jax.metrics import frechet_distance

    if name == "shapes_fvd":
        return _shapes_network()
    path = weights.i3d
    if path is None:
        return Missing(f"no weights: --i3d-weights (or {I3D_VARIABLE}) not given")
    if not path.exists():
        raise FileNotFoundError(f"no file {str(path)!r} of I3D weights (for FVD)")
    from fv_jax.metrics.i3d_network import CLASSES, LEAST_FRAMES
    from fv_jax.metrics.weights.published import published_i3d

    network, record = published_i3d(
        path,
        bn_epsilon=protocol.i3d_epsilon,
        resize=protocol.i3d_resize,
        allow_unverified=weights.allow_unverified,
    )
    settings = f"epsilon={protocol.i3d_epsilon:g} resize={protocol.i3d_resize}"
    return Network(
        f"i3d {_VERSION} {settings} {_sha256(path)}",
        CLASSES,
        LEAST_FRAMES,
        lambda videos: np.asarray(network.features(videos), np.float64),
        frechet_distance,
        record,
    )


def _shapes_network() -> FeatureExtractor:
    from fv_jax.metrics import frechet_distance
    from fv_jax.shapes.features import FEATURES, WEIGHTS
    from fv_jax.shapes.features import FeatureExtractor as ShapesFeatures

    extractor, sha256 = ShapesFeatures.load(), _sha256(WEIGHTS)
    features = lambda videos: np.asarray(extractor(videos), np.float64)
    record = {"sha256": sha256, "network": "fv_jax/assets/shapes_features"}
    print_ = f"shapes_features {_VERSION} {sha256}"
    return Network(print_, FEATURES, 3, features, frechet_distance, record)


def _luma(frames: UInt8[np.ndarray, "*n 3"]) -> UInt8[np.ndarray, "*n 3"]:
    """Frames in 8-bit grey, three times: the mean over channels is then that of the grey."""
    grey = np.round(frames @ np.asarray(_LUMA)).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


@functools.cache
def _sha256(path: Path) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            hasher.update(block)
    return f"sha256:{hasher.hexdigest()}"
