"""What a user names: an output that is an input is refused, by whatever name."""

import os

import pytest
from screen import left_on_screen

from fv_jax.cli.main import main
from fv_jax.cli.paths import check_apart, check_writable, place_of


@pytest.fixture
def home(tmp_path):
    (tmp_path / "clips" / "cats").mkdir(parents=True)
    (tmp_path / "clips" / "cats" / "a.mp4").write_bytes(b"a")
    os.symlink(tmp_path / "clips", tmp_path / "linked")
    os.symlink(tmp_path / "clips" / "cats" / "a.mp4", tmp_path / "link.mp4")
    os.link(tmp_path / "clips" / "cats" / "a.mp4", tmp_path / "hard.mp4")
    return tmp_path


@pytest.mark.parametrize("read", ["clips", "clips/cats", "linked", "clips/cats/a.mp4", "link.mp4"])
@pytest.mark.parametrize(
    "out", ["clips/cats/a.mp4", "clips/../clips/cats/a.mp4", "linked/cats/a.mp4", "link.mp4",
            "hard.mp4"],
)  # fmt: skip
def test_a_file_that_is_read_is_not_written(out, read, home):
    with pytest.raises(ValueError, match="is what is read"):
        check_writable(home / out, inputs=[None, home / read])


@pytest.mark.parametrize("out", ["clips/cats/b.mp4", "new/b.mp4", "clips/b.mp4"])
def test_a_file_beside_those_that_are_read_is(out, home):
    check_writable(home / out, inputs=[home / "clips", home / "link.mp4"])
    assert not (home / out).parent.exists() or list((home / out).parent.iterdir())


def test_a_file_that_is_to_be_made_twice_is_made_never(home):
    with pytest.raises(ValueError, match="is what is read"):
        check_writable(home / "new" / "a.npz", inputs=[home / "linked" / ".." / "new" / "a.npz"])


@pytest.mark.parametrize(
    "words",
    [
        "interpolate clips/cats/a.mp4 --out hard.mp4",
        "generate red --first-frames clips/cats/a.mp4 --out link.mp4",
        "data inspect clips --sheet clips/cats/0.png",
        "tokenize clips --out linked/cats",
        "evaluate clips/cats linked --out clips/results",
        "train own_tokenizer --data clips --run.folder clips/cats/model",
        "train own_videos --data clips --run.folder linked",
        "convert-weights hard.mp4 clips/cats/a.mp4",
    ],
)
def test_no_command_writes_what_it_reads(words, home, monkeypatch, capsys):
    (home / "clips" / "cats" / "0.png").write_bytes(b"0")
    monkeypatch.chdir(home)
    before = {path: path.lstat().st_mtime_ns for path in home.rglob("*")}
    assert main(words.split()) == 2
    line = left_on_screen(capsys.readouterr().err).strip()
    assert "what is read" in line
    assert "\n" not in line
    assert {path: path.lstat().st_mtime_ns for path in home.rglob("*")} == before


def test_a_folder_that_leads_back_to_itself_is_looked_through(home):
    os.symlink(home / "clips", home / "clips" / "cats" / "circle")
    with pytest.raises(ValueError, match="is what is read"):
        check_writable(home / "hard.mp4", inputs=[home / "clips"])


@pytest.mark.parametrize("out", ["clips", "clips/tokens", "linked", "linked/cats/new", "clips/."])
def test_a_folder_that_is_read_is_not_filled(out, home):
    with pytest.raises(ValueError, match=r"--out .* lies in what is read .*; choose another --out"):
        check_apart(home / out, home / "clips", flag="--out")


def test_a_folder_beside_it_is(home):
    for out in ("tokens", "clips2", "clips/../tokens"):
        check_apart(home / out, home / "clips", flag="--out")
    check_apart(home / "tokens", home / "hard.mp4", flag="--out")
    check_apart(home / "tokens", None, flag="--out")


def test_the_place_of_a_source(home):
    assert place_of(f"folder:{home},match=*") == home
    assert place_of(str(home)) == home
    assert place_of("shapes,count=3") is None
