"""Rows of both tasks on a tiny grid, and clips in which little changes."""

import dataclasses

import numpy as np
import tiny

from fv_jax.config.training import NetworkExperiment
from fv_jax.data.rows import RowMaker, blocks_of_a_row

EXPERIMENT = NetworkExperiment(
    "tiny",
    text_tokens=9,
    serial_numbers=6,
    key_frames=4,
    key_frame_stride=4,
    insertions=((4, 3), (2, 1)),
    key_frame_share=0.5,
    text_drop=0.25,
)
CAPTION = tiny.PROMPTS[0]


def rows_of(**changes):
    """A maker of rows of `EXPERIMENT`, changed."""
    changed = dataclasses.replace(EXPERIMENT, **changes)
    return RowMaker(changed, tiny.sequence(), tiny.text(), blocks_of_a_row(changed))


SKIP = dict(skip=(1.0, 0.5), insertions=((4, 3), (2, 1), (4, 1)), key_frame_share=0.5)


@dataclasses.dataclass(frozen=True)
class Moving:
    """Clips of noise in which an id changes now and then."""

    count: int = 10

    def __len__(self):
        return self.count

    def draw(self, index, rng):
        start, changes = rng.integers(36, size=(4, 4)), rng.uniform(size=(17, 4, 4)) < 0.03
        frames = np.where(np.cumsum(changes, axis=0) % 2, start + 1, start) % 36
        return CAPTION, frames.reshape(17, 16).astype(np.uint16)


CHANGES = dict(
    changes=True, skip=(1.0, 0.05), insertions=((4, 3),),
    model=dataclasses.replace(tiny.NETWORK, slots=0, nearby=3),
)  # fmt: skip
