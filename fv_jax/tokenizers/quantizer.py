"""Finite scalar quantization (FSQ, arXiv:2309.15505): a codebook that is arithmetic.

A latent vector of d channels is bounded channel by channel to `levels[j]` values and rounded.
The id is the mixed-radix number of the levels, so nothing is learned, searched or able to
collapse, and each axis is ordered: a small change of pixels moves a level by one at most,
which is what `hysteresis` relies on.

Shape letters: d channels, ... any leading axes.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@dataclasses.dataclass(frozen=True)
class FSQ:
    """The quantizer for the given levels. All maths in float32 (bf16 rounding flips ids)."""

    levels: tuple[int, ...]

    def __post_init__(self) -> None:
        # `bound` shifts even levels by half a step, which is as far as two levels reach.
        if not self.levels or any(level < 3 for level in self.levels):
            raise ValueError(f"levels must be integers >= 3, got {self.levels}")

    @property
    def codebook_size(self) -> int:
        """Number of ids."""
        return math.prod(self.levels)

    def bound(self, z: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """Squash each channel so that rounding yields exactly `levels[j]` integers.

        tanh is scaled to (L - 1) / 2 (a hair less, so that rounding never leaves the range)
        and shifted by half a step where L is even.
        """
        half = (jnp.asarray(self.levels, jnp.float32) - 1) * (1 - 1e-3) / 2
        offset = jnp.asarray([0.5 if level % 2 == 0 else 0.0 for level in self.levels])
        shift = jnp.arctanh(offset / half)
        return jnp.tanh(z.astype(jnp.float32) + shift) * half - offset

    def quantize(self, z: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """Codes in [-1, 1], with the gradient of `bound` (straight-through)."""
        bounded = self.bound(z)
        rounded = bounded + jax.lax.stop_gradient(jnp.round(bounded) - bounded)
        return rounded / self._half_levels(jnp.float32)

    def ids(self, rounded: Float[Array, "*b d"]) -> Int[Array, "*b"]:
        """Ids of rounded bounded channels (integers from -floor(L/2))."""
        levels = rounded.astype(jnp.int32) + self._half_levels(jnp.int32)
        return jnp.sum(levels * jnp.asarray(self._strides), axis=-1)

    def codes(self, ids: Int[Array, "*b"]) -> Float[Array, "*b d"]:
        """Codes in [-1, 1] of ids in [0, codebook_size)."""
        levels = ids[..., None] // jnp.asarray(self._strides) % jnp.asarray(self.levels)
        centered = levels - self._half_levels(jnp.int32)
        return centered.astype(jnp.float32) / self._half_levels(jnp.float32)

    def _half_levels(self, dtype) -> Array:
        return jnp.asarray([level // 2 for level in self.levels], dtype)

    @property
    def _strides(self) -> tuple[int, ...]:
        return tuple(math.prod(self.levels[:j]) for j in range(len(self.levels)))


def hysteresis(bounded: Float[np.ndarray, "F *b d"], delta: float) -> Float[np.ndarray, "F *b d"]:
    """Round over time, keeping a level while its channel stays within 1/2 + delta of it.

    Camera noise then cannot flip a channel that sits on the edge between two levels. A
    channel whose input does not change keeps its level exactly. `delta=0` is plain rounding.
    """
    levels = np.round(bounded)
    for t in range(1, len(levels)):
        keep = np.abs(bounded[t] - levels[t - 1]) < 0.5 + delta
        levels[t] = np.where(keep, levels[t - 1], levels[t])
    return levels
