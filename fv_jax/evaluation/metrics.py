"""The metrics by name: adding one is a class in a file of its own and a line here.

METRICS.register("mine", MyMetric)      # from outside; then `fv evaluate A B --metrics mine`
"""

from collections.abc import Sequence
from typing import Any

from fv_jax.config.registry import Registry
from fv_jax.metrics.interface import Metric, Missing, PairMetric, SetMetric, Weights

METRICS = Registry("metric", {
    "psnr": "fv_jax.metrics.signal_to_noise:PSNRMetric",
    "ssim": "fv_jax.metrics.structural_similarity:SSIMMetric",
    "lpips": "fv_jax.metrics.lpips:LPIPSMetric",
    "fvd": "fv_jax.metrics.frechet_video_distance:FVDMetric",
    "shapes_fvd": "fv_jax.shapes.distance:ShapesFVDMetric",
})  # fmt: skip


def of_pairs(name: str) -> bool:
    """Whether a metric compares each real clip with its fake, and not two sets."""
    return issubclass(METRICS[name], PairMetric)


def make_metrics(
    rules: Any, weights: Weights, length: int, whose: str, asked: Sequence[str] = ()
) -> dict[str, Metric | Missing]:
    """All metrics of a protocol, or why they cannot be computed.

    Args:
        rules: the protocol.
        weights: files of weights.
        length: frames of a clip.
        whose: the clip or protocol that has so many, for messages.
        asked: metrics that somebody named: they must not be missing for want of frames.

    Raises:
        FileNotFoundError: weights that were named are not there.
        ValueError: they are not what they should be; clips too short for a metric that was named
            or has weights.
    """
    counted = length - (0 if rules.given_in_fvd else rules.given_frames)
    made: dict[str, Metric | Missing] = {}
    for name in sorted(rules.metrics, key=of_pairs, reverse=True):
        kind = METRICS[name]
        made[name] = kind.made(rules, weights)
        if issubclass(kind, SetMetric) and counted < kind.least_frames:
            short = f"{counted} frames, {kind.label} needs {kind.least_frames}"
            if name in asked or isinstance(made[name], Metric):
                others = " ".join(filter(of_pairs, METRICS))
                raise ValueError(f"{whose}: got {short}; leave it out with --metrics {others}")
            made[name] = Missing(short)
    return made
