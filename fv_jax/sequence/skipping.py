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


def compact(
    tokens: Int[np.ndarray, "B T"], left_out: Bool[np.ndarray, "B T"], size: int
) -> Compact:
    """Rows of `size` tokens; what does not fit is cut off at the end."""
    kept = ~left_out
    length = np.minimum(kept.sum(axis=1), size)
    order = np.argsort(left_out, axis=1, kind="stable")[:, :size]
    order = np.pad(order, ((0, 0), (0, size + 1 - order.shape[1])))
    real = np.arange(size + 1) < length[:, None]
    last = np.max(np.where(real, order, -1), axis=1, keepdims=True)
    ids = np.where(real, np.take_along_axis(tokens, order, axis=1), PAD)[:, :size]
    positions = np.where(real, order, last + 1)
    return Compact(ids.astype(np.int32), positions.astype(np.int32), length.astype(np.int32))


def scatter(tokens: Int[np.ndarray, "B T"], rows: Compact) -> Int[np.ndarray, "B T"]:
    """Whole rows again: `tokens` with those of `rows` at their places."""
    whole = tokens.copy()
    row, place = np.nonzero(rows.real)
    whole[row, rows.positions[row, place]] = rows.tokens[row, place]
    return whole
