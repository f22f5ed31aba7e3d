"""A file of records that is written one record at a time and survives being cut off anywhere.

Each record is its length (4 bytes), its CRC-32 (4 bytes) and its bytes. What a killed process
left half-written at the end is dropped at the next opening.
"""

import struct
import zlib
from pathlib import Path

_HEADER = struct.Struct("<II")
_SEED = 1  # of the CRC: zeros, which a power cut may leave, are no empty record


class Journal:
    """Records so far, and room for more."""

    def __init__(self, path: Path):
        self.path = path
        whole, self.records = _read(path)
        self._file = path.open("ab")
        self._file.truncate(whole)

    def append(self, record: bytes) -> None:
        """Add a record; it is in the file when this returns."""
        self._file.write(_HEADER.pack(len(record), zlib.crc32(record, _SEED)) + record)
        self._file.flush()
        self.records.append(record)

    def close(self) -> None:
        """Close the file; it stays."""
        self._file.close()


def _read(path: Path) -> tuple[int, list[bytes]]:
    """Length of the part that is whole, and its records."""
    data = path.read_bytes() if path.exists() else b""
    position, records = 0, []
    while position + _HEADER.size <= len(data):
        length, check = _HEADER.unpack_from(data, position)
        record = data[position + _HEADER.size : position + _HEADER.size + length]
        if len(record) < length or zlib.crc32(record, _SEED) != check:
            break
        records.append(record)
        position += _HEADER.size + length
    return position, records
