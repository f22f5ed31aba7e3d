"""What is decided so far, for whoever looks on while a plan is run."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from fv_jax.generation.gaps import Gaps


@dataclasses.dataclass(frozen=True)
class Progress:
    """A look at the batch that is being sampled.

    Attributes:
        ids: of key frames in time order, one row a video, or of inserted frames, one row a gap;
            FREE where not decided.
        steps: sequential steps of this batch so far; 0 before anything is compiled or read.
        gaps: what is filled; None for key frames.
    """

    ids: Int[np.ndarray, "B F h w"]
    steps: int
    gaps: Gaps | None = None


# Told at the beginning and the end of each batch and in between; what it raises ends the work.
Watch = Callable[[Progress], None]
