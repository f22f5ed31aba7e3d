"""One id space for everything that the network reads.

    0          1            serial_start          gap_start         frame_start       size
    | padding  | text ids   | serial numbers SN_1 | gaps, if any    | frame codes     |

The network's output covers the frame codes only: text and serial numbers are always given.
"""

import dataclasses

from fv_jax.config.model import SequenceConfig

PAD = 0
FREE = -1  # in place of an id: to be sampled


@dataclasses.dataclass(frozen=True)
class Vocab:
    """Offsets of the ranges for a sequence config."""

    config: SequenceConfig

    @property
    def text_start(self) -> int:
        """Id of text id 0."""
        return 1

    @property
    def serial_start(self) -> int:
        """Id of SN_1."""
        return self.text_start + self.config.text_vocabulary

    @property
    def gap_start(self) -> int:
        """Id of the shortest gap."""
        return self.serial_start + self.config.serial_numbers

    @property
    def frame_start(self) -> int:
        """Id of frame code 0."""
        return self.gap_start + len(self.config.gaps)

    @property
    def size(self) -> int:
        """Number of ids: rows of the embedding."""
        return self.frame_start + self.config.frame_codes

    def serial(self, number: int) -> int:
        """Id of SN_number, counted from 1 as in the paper.

        Raises:
            ValueError: there is no such serial number.
        """
        if not 1 <= number <= self.config.serial_numbers:
            raise ValueError(
                f"serial number must be in 1..{self.config.serial_numbers}, got {number}"
            )
        return self.serial_start + number - 1

    def gap(self, frames: int) -> int:
        """Id of a gap of so many frames.

        Raises:
            ValueError: no block names such a gap.
        """
        if frames not in self.config.gaps:
            raise ValueError(f"a gap must be one of {self.config.gaps} frames, got {frames}")
        return self.gap_start + self.config.gaps.index(frames)
