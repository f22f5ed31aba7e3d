"""How many of its codes a tokenizer uses, and when it is dead: pictures that differ get one code.

A network that is trained on such ids learns them to perfection, and its videos are gray.
"""

import dataclasses
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Integer

_LEAST_SHARE = 0.02
_LEAST_PERPLEXITY = 4.0


@dataclasses.dataclass(frozen=True)
class CodeUse:
    """How much of a codebook some ids use.

    Attributes:
        codebook: number of codes that there are.
        used: number of those among the ids.
        perplexity: 2 to the entropy of their frequencies, in bits: of so many codes used equally
            often each id would say as much.
    """

    codebook: int
    used: int
    perplexity: float

    @classmethod
    def of(cls, ids: Iterable[Integer[np.ndarray, "..."]], codebook: int) -> "CodeUse":
        """The use that all ids of all arrays make of it."""
        counts = np.zeros(codebook, np.int64)
        for part in ids:
            counts += np.bincount(np.asarray(part).ravel(), minlength=codebook)
        shares = counts[counts > 0] / max(1, counts.sum())
        return cls(codebook, len(shares), float(np.exp(-(shares * np.log(shares)).sum())))

    @property
    def bits(self) -> float:
        """How much an id says, by the frequencies."""
        return math.log2(self.perplexity)

    @property
    def problem(self) -> str:
        """One clause that says what is wrong; "" if nothing is, or there are no ids."""
        least = math.ceil(_LEAST_SHARE * self.codebook)
        if not self.used or (self.used >= least and self.perplexity >= _LEAST_PERPLEXITY):
            return ""
        return (
            f"{self.used} of {self.codebook} codes in use, perplexity {self.perplexity:.3g} "
            f"(want {least} and {_LEAST_PERPLEXITY:g})"
        )

    @property
    def is_dead(self) -> bool:
        """Whether nearly all ids are alike, and not only few of many codes in use."""
        return 0 < self.used and self.perplexity < _LEAST_PERPLEXITY

    def warning(self, model: Path) -> str:
        """What is wrong with the tokenizer in this folder, in a line; "" if it uses its codes."""
        if not self.problem:
            return ""
        if not self.is_dead:
            return (
                f"{model} uses few of its codes: {self.problem}; if its samples look right, the "
                "clips need no more (plain ones, very dark or bright), and --force goes on; else "
                "train it longer (--run.steps)"
            )
        return (
            f"{model} is a dead tokenizer, what is made with it will be gray: {self.problem}; "
            "train it longer (--run.steps), or on clips that differ more (fv data inspect shows "
            "them)"
        )
