"""TFRecord files: records by number, and every kind of damage noticed."""

import sys

import numpy as np
import pytest
from tfrecord_writer import write_tfrecord

from fv_jax.data.sources.tfrecord import RecordFile
from fv_jax.media.readers import ClipError

PAYLOADS = [b"", b"a", bytes(range(256)) * 40, np.random.default_rng(0).bytes(100_003)]


def test_records_are_found_by_number(tmp_path):
    records = RecordFile(write_tfrecord(tmp_path / "a.tfrecords", PAYLOADS))
    assert (len(records), records.problem) == (4, "")
    assert [records[i] for i in (3, 0, 2, 1)] == [PAYLOADS[i] for i in (3, 0, 2, 1)]
    assert "tensorflow" not in sys.modules


def test_a_known_file_byte_by_byte(tmp_path):
    # What TensorFlow 2.21 writes for b"hello".
    path = tmp_path / "a.tfrecords"
    path.write_bytes(bytes.fromhex("0500000000000000eab2043e68656c6c6fbb1f1c19"))
    assert RecordFile(path)[0] == b"hello"


@pytest.mark.parametrize("left", [100_003 + 16 + 10_240 + 16 + 3, 100_003 + 20])
def test_a_truncated_file_gives_the_records_before(tmp_path, left):
    path = write_tfrecord(tmp_path / "a.tfrecords", PAYLOADS)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - left])
    records = RecordFile(path)
    whole = len(records)
    assert records.problem == f"the file ends within record {whole} (byte {len(data) - left})"
    assert [records[i] for i in range(whole)] == PAYLOADS[:whole]
    assert whole in (1, 2)


def test_a_flipped_bit_in_a_length_ends_the_file(tmp_path):
    path = write_tfrecord(tmp_path / "a.tfrecords", PAYLOADS)
    data = bytearray(path.read_bytes())
    data[16] ^= 1  # of record 1
    path.write_bytes(data)
    records = RecordFile(path)
    assert len(records) == 1
    assert records.problem == "record 1 is damaged (checksum of its length)"


def test_a_file_that_is_gone_is_noticed_on_reading(tmp_path):
    write_tfrecord(tmp_path / "a.tfrecord", [b"one", b"two"])
    file = RecordFile(tmp_path / "a.tfrecord")
    (tmp_path / "a.tfrecord").unlink()
    with pytest.raises(ClipError, match=r"a\.tfrecord cannot be read \(No such file"):
        file[1]


def test_a_flipped_bit_in_a_payload_is_noticed_on_reading(tmp_path):
    path = write_tfrecord(tmp_path / "a.tfrecords", PAYLOADS)
    data = bytearray(path.read_bytes())
    data[-5000] ^= 4
    path.write_bytes(data)
    records = RecordFile(path)
    assert (len(records), records.problem) == (4, "")
    assert records[2] == PAYLOADS[2]
    with pytest.raises(ClipError, match=r"record 3 of a.tfrecords is damaged \(checksum\)"):
        records[3]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "the file is empty"),
        (
            b"\x1f\x8b" + bytes(30),
            "record 0 is no TFRecord, or a compressed one (checksum of its length)",
        ),
        (b"short", "the file ends within record 0 (byte 5)"),
    ],
)
def test_other_files_are_told_apart(tmp_path, data, problem):
    path = tmp_path / "a.tfrecords"
    path.write_bytes(data)
    records = RecordFile(path)
    assert (len(records), records.problem) == (0, problem)
