"""Files are written whole or not at all."""

import os

import pytest

from fv_jax.files import only_process_in, read_text, replacing, write_text


def test_success_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_failure_without_an_old_file_leaves_nothing(tmp_path):
    def fail():
        with replacing(tmp_path / "a.txt"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert os.listdir(tmp_path) == []


def test_the_temporary_file_is_beside_the_target_with_its_suffix(tmp_path):
    path = tmp_path / "video.mp4"
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".mp4"


def test_folders_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "c.txt", "\u00e9")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == b"\xc3\xa9"


def test_files_have_the_usual_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_a_folder_has_one_process_at_a_time_and_is_free_again_after_a_failure(tmp_path):
    folder = tmp_path / "run"

    def enter(action=lambda: None):
        with only_process_in(folder):
            action()

    def fail():
        raise KeyboardInterrupt

    with only_process_in(folder), only_process_in(tmp_path / "another is free"):
        with pytest.raises(ValueError, match=r"another process works in .*run"):
            enter()
    with pytest.raises(KeyboardInterrupt):
        enter(fail)
    enter()


@pytest.mark.parametrize("text", ["a cat\r\n\r\na dog", "a", "", "été\n"])
def test_text_is_utf_8_with_or_without_a_mark(text, tmp_path):
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "a.txt").write_bytes(text.encode(encoding))
        assert read_text(tmp_path / "a.txt") == text.replace("\r", "")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("a cat".encode("utf-16"), "UTF-16"),
        ("a".encode("utf-16-le"), "UTF-16"),
        ("a cat".encode("utf-16-le"), "UTF-16"),
        ("a cat".encode("utf-16-be"), "UTF-16"),
        ("été".encode("latin-1"), "no UTF-8 text file"),
        (b"\0\0\0\x1cftypisom", "no text file"),
        (bytes(8), "no text file"),
    ],
)
def test_what_is_no_text_is_named(data, words, tmp_path):
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(ValueError, match=words):
        read_text(tmp_path / "a.txt")
