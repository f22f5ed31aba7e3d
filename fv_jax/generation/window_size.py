"""How many tokens to decode at a time where nobody says: it changes the time, not what is sampled.

A step over n tokens (W of every row) takes about a + b n seconds: a for what is read and started
whatever n is, b for arithmetic. Both are measured once for each device and network
(`engine.Engine.step_time`). A step of a wider window keeps more tokens, but ever fewer of those it
reads, since guesses far from what is known hold less often: how many is measured, too
(`fv bench window`). W is the width with the least time for each token that is kept. Guesses that
are checked by what would have been sampled anyway are a coupling of two samplers with the same
noise (arXiv:2410.01699, arXiv:2510.24211); in float32 it changes no id.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from fv_jax.config.model import SequenceConfig

# Tokens that a step keeps at each W: ids a step of `fv bench window` as `fv generate` samples with
# the shipped model, over those at W = 1. How far guesses hold depends on the model and the data; a
# model's own `stats` tell (`steps`, `accepted`).
KEPT_KEY_FRAMES = {1: 1.0, 2: 1.8, 4: 3.1, 8: 5.1, 16: 6.9, 32: 7.7, 77: 10.5}
KEPT_BETWEEN = {1: 1.0, 2: 1.9, 4: 3.3, 8: 5.8, 16: 8.4, 32: 10.9, 77: 16.4}
# Where what would be guessed best is left out: the same, all stable ids inherited.
KEPT_SKIPPING = {1: 1.0, 2: 1.9, 4: 3.3, 8: 5.2, 16: 6.4}


@dataclasses.dataclass(frozen=True)
class StepTime:
    """Seconds of a step over n tokens: a + b n.

    Attributes:
        a: of a step without tokens.
        b: of each token.
    """

    a: float
    b: float

    @classmethod
    def between(cls, few: tuple[int, float], many: tuple[int, float]) -> "StepTime":
        """The line through two measured (tokens, seconds); neither a nor b is below 0."""
        b = max((many[1] - few[1]) / (many[0] - few[0]), 0.0)
        return cls(max(few[1] - b * few[0], 0.0), b)

    def __call__(self, tokens: float) -> float:
        """Seconds."""
        return self.a + self.b * tokens


def without_guesses(sequence: SequenceConfig) -> dict[int, float]:
    """Tokens that a step keeps where nothing is guessed: only text and serial number are known."""
    header, kept = sequence.header, {}
    for window in _widths(sequence.stride):
        steps = sequence.frame_tokens + -(-header // window)
        kept[window] = sequence.stride / steps
    return kept


def window_size(step: StepTime, rows: int, stride: int, kept: Mapping[int, float]) -> int:
    """W, from 1 to a block's length.

    Args:
        step: what a step takes.
        rows: of the network that decode together (with guidance two per video).
        stride: tokens of a block.
        kept: tokens that a step keeps at some widths, two or more; between them, and beyond the
            widest, it is taken as linear in log W.
    """
    widths = _widths(stride)
    known, values = np.log(list(kept)), list(kept.values())
    many = np.interp(np.log(widths), known, values)
    rise = (values[-1] - values[-2]) / (known[-1] - known[-2])
    many += rise * np.maximum(np.log(widths) - known[-1], 0)
    return widths[int(np.argmin([step(w * rows) / m for w, m in zip(widths, many)]))]


def row_groups(
    left: Int[np.ndarray, " B"], step: StepTime, window: int
) -> list[Int[np.ndarray, " rows"]]:
    """Which rows are best decoded together: those that are alike in length, in equal groups.

    A group takes as many steps as its longest row needs, and a row that is done costs as much as
    one that is not. Where a step's time is its tokens' (a CPU), small groups waste less; where it
    is the same for few and many of them (a GPU), all rows stay together.

    Args:
        left: tokens of each row that are still to be read.
        step: what a step takes.
        window: tokens of a row that a step reads.
    """
    order = np.argsort(left, kind="stable")
    sizes = [n for n in range(1, len(left) + 1) if len(left) % n == 0]
    ways = [np.split(order, n) for n in sizes]
    return min(ways, key=lambda way: sum(left[g].max() * step(len(g) * window) for g in way))


def buffer_size(window: int, platform: str) -> int:
    """Slots of the lazy state: none on a CPU, whose caches hold the state.

    All slots are read at every step, R is written once in M / W steps: with 64 and 128 channels in
    bfloat16, and R in float32, the bytes are least at about M = 13 sqrt(W).
    """
    return 0 if platform == "cpu" else max(16, 4 * window)


def _widths(stride: int) -> list[int]:
    """Powers of two, and a whole block."""
    return [*(2**i for i in range(stride.bit_length()) if 2**i < stride), stride]
