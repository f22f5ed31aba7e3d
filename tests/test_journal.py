"""The journal: what was appended is there after any cut, and nothing else."""

import hypothesis
from hypothesis import strategies as st

from fv_jax.journal import Journal

RECORDS = [b"", b"a", b"some\nlines\n", bytes(range(256))]


def written(path, records):
    journal = Journal(path)
    for record in records:
        journal.append(record)
    journal.close()
    return path


def read(path):
    journal = Journal(path)
    journal.close()
    return journal.records


def test_a_journal_goes_on_where_it_stopped(tmp_path):
    path = written(tmp_path / "j", RECORDS[:2])
    journal = Journal(path)
    assert journal.records == RECORDS[:2]
    for record in RECORDS[2:]:
        journal.append(record)
    journal.close()
    assert read(path) == RECORDS


@hypothesis.given(st.integers(0, 400))
def test_after_a_cut_anywhere_the_whole_records_remain_and_more_can_follow(tmp_path_factory, cut):
    path = written(tmp_path_factory.mktemp("cut") / "j", RECORDS)
    data = path.read_bytes()[:cut]
    path.write_bytes(data)
    ends, position = [], 0
    for record in RECORDS:
        position += 8 + len(record)
        ends.append(position)
    whole = sum(end <= len(data) for end in ends)
    journal = Journal(path)
    assert journal.records == RECORDS[:whole]
    journal.append(b"next")
    journal.close()
    assert read(path) == [*RECORDS[:whole], b"next"]


def test_a_flipped_bit_ends_the_journal_there(tmp_path):
    path = written(tmp_path / "j", RECORDS)
    data = bytearray(path.read_bytes())
    data[16] ^= 1  # the first byte of the second record: two headers of 8 bytes come before
    path.write_bytes(data)
    assert read(path) == RECORDS[:1]


def test_zeros_at_the_end_are_no_records(tmp_path):
    path = written(tmp_path / "j", RECORDS)
    path.write_bytes(path.read_bytes() + bytes(40))
    assert read(path) == RECORDS
