"""Any number of rows for a function that is compiled for one number of them."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

Row = TypeVar("Row")


def filled(rows: Sequence[Row] | np.ndarray, size: int) -> list[Row]:
    """The rows, and the last one again and again until there are `size` of them.

    What a row gives must not depend on the rows beside it; results past `len(rows)` are thrown
    away.

    Args:
        rows: at least one, at most `size`: a list, or an array [B, ...].
        size: the number of rows that the function is compiled for.
    """
    return [*rows, *[rows[-1]] * (size - len(rows))]


def batched(function: Callable, inputs: np.ndarray, size: int) -> np.ndarray:
    """Results of a function for an array of any number of rows, `size` rows at a time.

    Args:
        function: gets [size, ...] and gives an array [size, ...], row by row.
        inputs: [B, ...], any B; without a row the function is called once, for its result's shape.
        size: rows at a time, at least 1.

    Returns:
        [B, ...].
    """
    outputs = []
    for start in range(0, max(len(inputs), 1), size):
        rows = inputs[start : start + size]
        known = rows if len(rows) else np.zeros((1, *inputs.shape[1:]), inputs.dtype)
        outputs.append(np.asarray(function(np.stack(filled(known, size))))[: len(rows)])
    return np.concatenate(outputs)
