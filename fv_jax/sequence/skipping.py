"""Rows without the tokens that nobody needs (paper section 3.3: inherited ids bypass the model).

    row      [.. SN | x  .  .  x | SN | .  x  .  x ]     . left out
    compact  [.. SN   x        x   SN      x     x   - ]  - padding, so that rows have one length
    at        .. 8    9       12   13     15    17  18    positions stay those of the whole row

Left out are ids that are known to be those of a frame beside theirs. The network needs nothing but
the positions of what is left (`ops/retention.py`).
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Int

from fv_jax.sequence.vocab import PAD


@dataclasses.dataclass(frozen=True)
class Compact:
    """Rows without what is left out of them.

    Attributes:
        tokens: what is left of each row, in order, and padding.
        positions: where that stands in the whole row, and where what comes after it does. All of a
            row's padding stands behind its last token.
        length: tokens of each row that are no padding.
    """

    tokens: Int[np.ndarray, "B S"]
    positions: Int[np.ndarray, "B tokens_and_next"]
    length: Int[np.ndarray, " B"]

    @property
    def real(self) -> Bool[np.ndarray, "B S"]:
        """What is no padding."""
        return np.arange(self.tokens.shape[1]) < self.length[:, None]


def kept_places(
    left_out: Bool[np.ndarray, "B T"],
) -> tuple[Int[np.ndarray, "B T"], Int[np.ndarray, " B"]]:
    """Where what is left of each row stands, before all else; and how much that is."""
    return np.argsort(left_out, axis=1, kind="stable"), (~left_out).sum(axis=1)


def compact(
    tokens: Int[np.ndarray, "B T"], left_out: Bool[np.ndarray, "B T"], size: int
) -> Compact:
    """Rows of `size` tokens; what does not fit is cut off at the end."""
    places, length = kept_places(left_out)
    length = np.minimum(length, size)
    places = np.pad(places[:, :size], ((0, 0), (0, max(size - tokens.shape[1], 0) + 1)))
    real = np.arange(size + 1) < length[:, None]
    last = np.max(np.where(real, places, -1), axis=1, keepdims=True)
    ids = np.where(real, np.take_along_axis(tokens, places, axis=1), PAD)[:, :size]
    positions = np.where(real, places, last + 1)
    return Compact(ids.astype(np.int32), positions.astype(np.int32), length.astype(np.int32))
