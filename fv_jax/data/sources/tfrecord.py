"""TFRecord files without TensorFlow: records found by seeking, checksums checked.

A file is a row of records, every number little-endian:

    length      uint64
    checksum    uint32    of those 8 bytes
    payload     length bytes
    checksum    uint32    of the payload

A checksum is crc32c rotated right by 15 bits plus a constant ("masked"):
https://www.tensorflow.org/tutorials/load_data/tfrecord.
"""

import struct
from pathlib import Path

import google_crc32c
import numpy as np

from fv_jax.media.readers import ClipError

_MASK = 0xA282EAD8


class RecordFile:
    """The records of one file by number. The file is opened for each, nothing stays open.

    Attributes:
        problem: why records after the last one are left out, or "".
    """

    def __init__(self, path: Path):
        self.path, self.problem = path, ""
        spans: list[tuple[int, int]] = []
        end, at = path.stat().st_size, 0
        if not end:
            self.problem = "the file is empty"
        with path.open("rb", buffering=0) as file:
            while at < end and not self.problem:
                file.seek(at)
                head = file.read(12)
                start, size = at + 12, int.from_bytes(head[:8], "little")
                if len(head) == 12 and head[8:] != _checksum(head[:8]):
                    what = "is damaged" if spans else "is no TFRecord, or a compressed one"
                    self.problem = f"record {len(spans)} {what} (checksum of its length)"
                elif start + size + 4 > end:
                    self.problem = f"the file ends within record {len(spans)} (byte {end})"
                else:
                    spans.append((start, size))
                    at = start + size + 4
        self._spans = np.asarray(spans, np.int64).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, index: int) -> bytes:
        """The payload of a record.

        Raises:
            ClipError: the file cannot be read, or the checksum is another one.
        """
        start, size = (int(number) for number in self._spans[index])
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(start)
                data = file.read(size + 4)
        except OSError as error:
            raise ClipError(f"{self.path.name} cannot be read ({error.strerror})") from error
        if data[size:] != _checksum(data[:size]):
            raise ClipError(f"record {index} of {self.path.name} is damaged (checksum)")
        return data[:size]


def _checksum(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF)
