"""What lies under a folder: clips, texts, and what is left out with its reason."""

import os

import pytest

from fv_jax.media.walk import each_folder, of_left_out, walk


def make(home, *names):
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()


@pytest.mark.parametrize(
    "folder",
    ["@eaDir", "#recycle", "$RECYCLE.BIN", "RECYCLER", "__MACOSX", "LOST.DIR", "lost+found",
     "System Volume Information", "Network Trash Folder", "Temporary Items", ".thumbnails"],
)  # fmt: skip
def test_what_other_systems_leave_is_no_clip(folder, tmp_path):
    make(tmp_path, "cats/a.mp4", f"cats/{folder}/a.mp4", "cats/Thumbs.db", "cats/._a.mp4")
    found = walk(tmp_path)
    assert found.clips == ["cats/a.mp4"]
    assert found.left_out.keys() == {f"cats/{folder}", "cats/Thumbs.db", "cats/._a.mp4"}


def test_why_files_are_no_clips_is_counted(tmp_path):
    make(tmp_path, "a.mp4", "a.mxf", "b.mxf", "cover.jpg", "notes.docx", "notes.txt")
    found = walk(tmp_path)
    assert found.texts == ["notes.txt"]
    assert of_left_out(found.left_out) == (
        "4 files and folders are no clips: .mxf files are not read (2); no video, picture or text "
        "(1); a picture beside clips (1)"
    )


def test_links_are_followed_to_each_place_once(tmp_path):
    make(tmp_path, "in/b/1.mp4", "out/2.mp4")
    os.symlink(tmp_path / "in", tmp_path / "in" / "b" / "circle")
    for name in ("first", "second"):
        os.symlink(tmp_path / "out", tmp_path / "in" / name)
    homes = [home for home, _, _ in each_folder(tmp_path / "in")]
    assert {home.resolve() for home in homes} == {
        tmp_path / place for place in ("in", "in/b", "out")
    }
    assert len(homes) == 3
