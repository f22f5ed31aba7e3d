"""Scores of videos frame by frame, as the video papers' common tool takes them.

    frame_scores(real, fake, {"psnr": PSNR(), "ssim": SSIM(), "lpips": lpips})    one pass, [N, F]

The tool is JunyaoHu/common_metrics_on_video_quality (5f75173). Its PSNR, SSIM and LPIPS compare a
frame with its frame and average the frames' scores, over videos and times alike. Other tools'
numbers do not compare: best of 100 samples (MAGVIT, MCVD), gray frames (MCVD).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float

from fv_jax.metrics.device_batches import DeviceBatches
from fv_jax.metrics.interface import Clips, PairMetric
from fv_jax.metrics.videos import Checker, Videos, pairs

BATCH = 16  # frames on each device at a time


@runtime_checkable
class Measure(Protocol):
    """A way to compare frames: a pytree, so that it can go into `jax.jit` as an argument.

    `name` must be part of its structure (a field that is no node): jax 0.10 takes structures of two
    classes that differ in nothing else for equal, and may then run one's program for the other.
    """

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def least_size(self) -> int:
        """Px that both sides of a frame must have."""
        ...

    def scores(self, real: Array, fake: Array) -> Float[Array, " B"]:
        """The score of each pair of frames [B, Y, X, 3], uint8 or float32 in [0, 1]; pure."""
        ...


class FrameMetric(PairMetric):
    """The mean score of a pair's frames.

    Attributes:
        measure: how frames are compared.
    """

    measure: Measure

    @property
    def least_size(self) -> int:  # type: ignore[override]
        """Px that both sides of a frame must have."""
        return self.measure.least_size

    def __call__(self, real: Clips, fake: Clips) -> Float[np.ndarray, " N"]:
        return per_frame(self.measure, real, fake).mean(-1).astype(np.float64)


def frame_scores(
    real: Videos,
    fake: Videos,
    measures: Mapping[str, Measure],
    *,
    batch: int = BATCH,
    devices: Sequence[jax.Device] | None = None,
) -> dict[str, Float[np.ndarray, "N F"]]:
    """Every measure's score of every frame, in one pass over both sets.

    Args:
        real: clips [F, Y, X, 3] of uint8 or floats in [0, 1], one after the other (`videos.py`).
        fake: as many, of the same shape.
        measures: a `Measure` by each name that the result shall have.
        batch: frames on each device at a time.
        devices: all of this process by default.

    Returns:
        float32 [clips, frames] by name.

    Raises:
        ValueError: other numbers of clips or none; clips that differ in length or size; frames
            too small; pixels that are neither uint8 nor in [0, 1]. It names the clip. A batch
            below 1, or no measure.
    """
    if not measures:
        raise ValueError("frame scores need at least one measure, got none")
    wants_most = max(measures.values(), key=lambda measure: measure.least_size)
    check = Checker(least_size=wants_most.least_size, purpose=wants_most.name)
    check_fake = Checker(like=check)
    parts: list[dict[str, np.ndarray]] = []
    batches = DeviceBatches(_all_scores, dict(measures), parts.append, size=batch, devices=devices)
    length = 0
    for clip, other in pairs(real, fake):
        frames = check(clip).frames
        length = len(frames)
        for pair in zip(frames, check_fake(other).frames):
            batches.add(*pair)
    batches.finish()
    return {
        name: np.concatenate([part[name] for part in parts]).reshape(-1, length)
        for name in measures
    }


def mean_score(measure: Measure, real: Videos, fake: Videos, batch: int = BATCH) -> float:
    """A measure's mean over all frames of two sets.

    Raises:
        ValueError: as `frame_scores`.
    """
    scores = frame_scores(real, fake, {"": measure}, batch=batch)[""]
    return float(scores.mean(dtype=np.float64))


def per_frame(
    measure: Measure, real: np.ndarray, fake: np.ndarray, batch: int = BATCH
) -> Float[np.ndarray, "*b"]:
    """A measure's score of each frame of two arrays [..., Y, X, 3].

    Raises:
        ValueError: as `frame_scores`.
    """
    if real.shape != fake.shape:
        raise ValueError(f"videos must have the same shape, got {real.shape} and {fake.shape}")
    if real.ndim < 3 or real.shape[-1] != 3 or not real.size:
        raise ValueError(f"frames must be [..., Y, X, 3], with a frame, got {real.shape}")
    one, other = (x.reshape(1, -1, *x.shape[-3:]) for x in (real, fake))
    scores = frame_scores(one, other, {"": measure}, batch=batch)[""]
    return scores.reshape(real.shape[:-3])


@jax.jit
def _all_scores(measures: dict[str, Any], real: Array, fake: Array) -> dict[str, Array]:
    return {name: measure.scores(real, fake) for name, measure in measures.items()}
