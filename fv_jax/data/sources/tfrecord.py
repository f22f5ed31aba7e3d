"""TFRecord files without TensorFlow: records found by seeking, checksums checked.

A file is a row of records, every number little-endian:

    length      uint64
    checksum    uint32    of those 8 bytes
    payload     length bytes
    checksum    uint32    of the payload

A checksum is crc32c rotated right by 15 bits plus a constant ("masked"):
https://www.tensorflow.org/tutorials/load_data/tfrecord.
"""

import functools
import struct
from pathlib import Path

import numpy as np
from jaxtyping import UInt32

from fv_jax.media.readers import ClipError

_POLYNOMIAL = np.uint32(0x82F63B78)  # of crc32c, bits reversed
_MASK = 0xA282EAD8
_LANE = 256  # bytes that are walked through one after the other; the lanes go side by side


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


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, RFC 3720): 3 ms for a megabyte.

    A register starts at ~0, and a byte changes it in a linear way, so: the start is the same as
    flipping the first four bytes; zero bytes in front of that change nothing; and the register
    of two stretches is that of the second plus that of the first moved on by the second's length.
    """
    if len(data) < 2 * _LANE:
        register = 0xFFFFFFFF
        for byte in data:
            register = register >> 8 ^ _BYTES[register & 255 ^ byte]
        return register ^ 0xFFFFFFFF
    lanes = -(-len(data) // _LANE)
    padded = np.zeros(lanes * _LANE, np.uint8)
    padded[-len(data) :] = np.frombuffer(data, np.uint8)
    padded[-len(data) :][:4] ^= 255
    table = _table()
    registers = np.zeros(lanes, np.uint32)
    for column in np.ascontiguousarray(padded.view("<u2").reshape(lanes, -1).T):
        registers = registers >> 16 ^ table.take(registers & 0xFFFF ^ column)
    shift = _LANE.bit_length() - 1
    while len(registers) > 1:
        if len(registers) % 2:
            registers = np.concatenate([np.zeros(1, np.uint32), registers])
        registers = _times(_move(shift), registers[::2]) ^ registers[1::2]
        shift += 1
    return int(registers[0]) ^ 0xFFFFFFFF


def _checksum(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF)


@functools.cache
def _table() -> UInt32[np.ndarray, "65536"]:
    """What becomes of a register below 2^16 after two zero bytes."""
    table = np.arange(1 << 16, dtype=np.uint32)
    for _ in range(16):
        table = table >> 1 ^ _POLYNOMIAL * (table & 1)
    return table


@functools.cache
def _move(power: int) -> UInt32[np.ndarray, "32"]:
    """2^power zero bytes as a matrix of bits: what becomes of each bit of a register."""
    if power == 0:
        bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
        for _ in range(8):
            bits = bits >> 1 ^ _POLYNOMIAL * (bits & 1)
        return bits
    return _times(_move(power - 1), _move(power - 1))


def _times(matrix: np.ndarray, registers: np.ndarray) -> np.ndarray:
    result = np.zeros_like(registers)
    for bit in range(32):
        result ^= (registers >> np.uint32(bit) & 1) * matrix[bit]
    return result


def _byte_table() -> list[int]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = table >> 1 ^ _POLYNOMIAL * (table & 1)
    return table.tolist()


_BYTES = _byte_table()  # what becomes of a register below 2^8 after one zero byte
