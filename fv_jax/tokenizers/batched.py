"""A jitted function over any number of frames, with one trace."""

from collections.abc import Callable

import numpy as np


def batched(function: Callable, inputs: np.ndarray, size: int) -> np.ndarray:
    """Apply `function` to `size` rows at a time; the last ones are padded, and cut off again."""
    outputs = []
    for start in range(0, max(len(inputs), 1), size):
        part = inputs[start : start + size]
        padded = np.pad(part, [(0, size - len(part))] + [(0, 0)] * (inputs.ndim - 1))
        outputs.append(np.asarray(function(padded))[: len(part)])
    return np.concatenate(outputs)
