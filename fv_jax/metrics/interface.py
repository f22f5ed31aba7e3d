"""What a metric is, for those that compute, name or print metrics without knowing any.

    PairMetric     compares a real clip with its fake: one number for each pair
    SetMetric      features of every clip, and a distance of two sets of them
    Missing        the reason why there is neither

A metric is a class in a file of its own and a line in `evaluation/metrics.py`: its attributes say
how it is called and printed and which weights it needs, an instance computes it.
"""

import abc
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, UInt8

from fv_jax.metrics.frechet import frechet_distance

Clips = UInt8[np.ndarray, "N F Y X 3"]


@dataclasses.dataclass(frozen=True)
class Missing:
    """Why a metric cannot be computed. It is null in the results then, never 0."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Weights:
    """Files of weights that a metric may need.

    Attributes:
        files: by the name of their flag, with underscores; what is not here is looked for
            under the metric's environment variable.
        allow_unverified: take others than the published ones.
    """

    files: Mapping[str, Path] = dataclasses.field(default_factory=dict)
    allow_unverified: bool = False


class Metric(abc.ABC):
    """What both kinds have in common.

    Attributes:
        label: how people call it.
        unit: of its numbers, "" for none.
        higher_is_better: which of two numbers is the better one.
        digits: format of its numbers in tables.
        weights: flag, with underscores, and environment variable of every file it needs.
        fingerprint: everything that its numbers depend on, such as hashes of weights. Numbers are
            kept under it: it has to change when the code comes to other numbers.
        record: what is known of the weights, as JSON; None where there are none.
    """

    label: ClassVar[str]
    unit: ClassVar[str] = ""
    higher_is_better: ClassVar[bool]
    digits: ClassVar[str] = ".4g"
    weights: ClassVar[tuple[tuple[str, str], ...]] = ()
    fingerprint: str
    record: dict[str, Any] | None = None

    @abc.abstractmethod
    def __init__(self, rules: Any, weights: Weights):
        """Make it ready.

        Args:
            rules: settings of the evaluation (`evaluation/protocols.py`), of which each metric
                reads its own.
            weights: with every file that `weights` names.

        Raises:
            FileNotFoundError: weights are not where they should be.
            ValueError: they are not what they should be.
        """

    @classmethod
    def made(cls, rules: Any, given: Weights) -> "Metric | Missing":
        """The metric, or why it cannot be computed; raises as making it does."""
        files, lacks = {}, []
        for name, variable in cls.weights:
            path = given.files.get(name) or os.environ.get(variable)
            if path:
                files[name] = Path(path)
            else:
                lacks.append(f"--{name.replace('_', '-')} (or {variable})")
        if lacks:
            return Missing(f"no weights: {' and '.join(lacks)} not given")
        return cls(rules, Weights(files, given.allow_unverified))

    @classmethod
    def heading(cls) -> str:
        """Head of a table's column: label, unit, and an arrow to where it gets better."""
        unit = f", {cls.unit}" if cls.unit else ""
        return f"{cls.label}{unit} {'↑' if cls.higher_is_better else '↓'}"


class PairMetric(Metric):
    """Compares each real clip with its fake.

    Attributes:
        least_size: px that both sides of a frame must have.
    """

    least_size: int = 1

    @abc.abstractmethod
    def __call__(self, real: Clips, fake: Clips) -> Float[np.ndarray, " N"]:
        """The score of every pair, of uint8 clips of one shape."""


class SetMetric(Metric):
    """Compares all real clips with all fakes by their features.

    Attributes:
        least_frames: that a clip must have.
        width: C, numbers of a clip.
    """

    least_frames: ClassVar[int] = 1
    width: int

    @abc.abstractmethod
    def features(self, clips: Clips) -> Float[np.ndarray, "N C"]:
        """Features of every clip, of uint8 clips of one shape."""

    def distance(self, real: Float[np.ndarray, "N C"], fake: Float[np.ndarray, "fakes C"]) -> float:
        """The distance of two sets of features: Fréchet's, unless a metric has another."""
        return frechet_distance(real, fake)
