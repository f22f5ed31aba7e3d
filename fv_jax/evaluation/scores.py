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
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol as Interface
from typing import runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from fv_jax.evaluation.protocols import LEAST_FVD_FRAMES, Protocol

I3D_VARIABLE, TRUNK_VARIABLE, HEADS_VARIABLE = "FV_I3D_WEIGHTS", "FV_LPIPS_TRUNK", "FV_LPIPS_HEADS"
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


@dataclasses.dataclass(frozen=True)
class Weights:
    """Files of weights; where one is None, its environment variable says, or there are none."""

    i3d: Path | None = None
    lpips_trunk: Path | None = None
    lpips_heads: Path | None = None

    @property
    def found(self) -> "Weights":
        """These, with what the environment says beside them."""
        names = (I3D_VARIABLE, TRUNK_VARIABLE, HEADS_VARIABLE)
        told = (Path(os.environ[name]) if os.environ.get(name) else None for name in names)
        given = (getattr(self, field.name) for field in dataclasses.fields(self))
        return Weights(*(value or other for value, other in zip(given, told)))


def frame_score(name: str, protocol: Protocol, weights: Weights) -> PairScore | Missing:
    """PSNR, SSIM or LPIPS as the protocol has it.

    Raises:
        FileNotFoundError: weights that were named are not there.
        ValueError: they are not what they should be.
    """
    from fv_jax.metrics.frame_quality import psnr_per_frame, ssim

    if name == "psnr":
        return FrameScore("psnr", True, lambda real, fake: psnr_per_frame(real, fake).mean(-1))
    if name == "ssim":
        prepared = _luma if protocol.ssim_colour == "luma" else lambda frames: frames
        each = lambda real, fake: np.asarray(
            [ssim(prepared(a[None]), prepared(b[None])) for a, b in zip(real, fake)]
        )
        return FrameScore(f"ssim {protocol.ssim_colour}", True, each)
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
    from fv_jax.metrics.lpips import LPIPS

    lpips = LPIPS.load(trunk, heads)
    if lpips.net != protocol.lpips_net:
        raise ValueError(
            f"{trunk}: got weights of {lpips.net}, want {protocol.lpips_net} "
            f"(profile {protocol.profile}; --lpips-net changes it)"
        )
    print_ = f"lpips {lpips.net} upsample={lpips.upsample} {_sha256(trunk)} {_sha256(heads)}"
    return FrameScore(print_, False, lambda real, fake: lpips.per_frame(real, fake).mean(-1))


def video_network(protocol: Protocol, weights: Weights) -> FeatureExtractor | Missing:
    """FVD's network as the protocol has it.

    Raises:
        FileNotFoundError: weights that were named are not there.
        ValueError: they are not what they should be.
    """
    path = weights.i3d
    if path is None:
        return Missing(f"no weights: --i3d-weights (or {I3D_VARIABLE}) not given")
    if not path.exists():
        raise FileNotFoundError(f"no file {str(path)!r} of I3D weights (for FVD)")
    from fv_jax import metrics

    try:
        i3d, distance = metrics.I3D, metrics.frechet_distance  # pyright: ignore
    except AttributeError:
        return Missing("this version of fv_jax has no I3D network")
    options: dict = {"bn_epsilon": protocol.i3d_epsilon}
    if "resize" in inspect.signature(i3d.load).parameters:
        options["resize"] = protocol.i3d_resize
    elif protocol.i3d_resize != "half_pixel":
        return Missing(f"the I3D network has no resize {protocol.i3d_resize!r}")
    network = i3d.load(path, **options)
    features = getattr(network, "features", network)
    if "ddof" in inspect.signature(distance).parameters:
        distance = functools.partial(distance, ddof=protocol.covariance_ddof)
    settings = f"epsilon={protocol.i3d_epsilon:g} resize={protocol.i3d_resize}"
    return Network(
        f"i3d {settings} {_sha256(path)}",
        400,
        LEAST_FVD_FRAMES,
        lambda videos: np.asarray(features(videos), np.float64),
        distance,
    )


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
