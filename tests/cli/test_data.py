"""`fv data inspect`: the numbers printed are those of the clips, and nothing wrong is left out."""

import json
import os
import warnings

import pytest
import videos
from PIL import Image

from fv_jax.cli.main import main


@pytest.fixture
def clips(tmp_path):
    """Five good clips of two classes, and four files that are none."""
    home = tmp_path / "clips"
    for folder in ("cat", "dog_and_bone"):
        (home / folder).mkdir(parents=True)
    for i in range(3):
        videos.write(home / "cat" / f"{i}.mp4", videos.noise(25, seed=i), "mp4")
    videos.write(home / "dog_and_bone" / "a.gif", videos.noise(10, (24, 32)), "gif")
    videos.write(home / "dog_and_bone" / "b.avi", videos.noise(50, (24, 32)), "avi")
    whole = (home / "cat" / "0.mp4").read_bytes()
    (home / "cut1.mp4").write_bytes(whole[:-100])
    (home / "cut2.mp4").write_bytes(whole[:-777])
    (home / "empty.mp4").touch()
    (home / "words.mp4").write_text("these are words\n" * 99)
    return home


def inspect(capsys, *args):
    """Code, output and report of `fv data inspect`."""
    code = main(["data", "inspect", *map(str, args)])
    return code, capsys.readouterr()


def test_what_is_printed_and_written(clips, tmp_path, capsys):
    sheet = tmp_path / "new" / "sheet.png"
    code, shown = inspect(capsys, clips, "--sheet", sheet)
    assert code == 0
    lines = {line.split()[0]: line for line in shown.out.splitlines() if line[0] != " "}
    assert lines["clips"].endswith("9, 9 opened (first, middle and last frame), 5 readable")
    assert lines["length"].endswith("5.4 s; 0.4 to 2 s, median 1")
    assert lines["frames"].endswith("135; 10 to 50 a clip, median 25")
    assert lines["rate"].endswith("25 fps: 25 (5)")
    assert lines["size"].endswith("64x48 (3), 32x24 (2)")
    assert lines["texts"].endswith("3 distinct, the longest of 3 words")
    assert lines["problems"].endswith("4")
    assert "         4 video\n         3 cat\n         2 dog and bone\n" in shown.out
    assert "2 cut short: at least N bytes are missing at the end: cut1.mp4, cut2.mp4\n" in shown.out
    assert "1 the file is empty: empty.mp4\n" in shown.out
    assert "Traceback" not in shown.err
    report = json.loads((tmp_path / "new" / "inspect.json").read_text())
    reasons = {problem["id"]: problem["reason"] for problem in report["problems"]}
    assert reasons.keys() == {"cut1.mp4", "cut2.mp4", "empty.mp4", "words.mp4"}
    assert reasons["cut1.mp4"] == "cut short: at least 100 bytes are missing at the end"
    assert report["texts"] == {"video": 4, "cat": 3, "dog and bone": 2}
    assert report["seconds"]["total"] == pytest.approx(5.4)
    with Image.open(sheet) as image:
        assert image.width > 3 * 3 * 100
        # Each of the five clips shows its own colors.
        assert len(image.convert("RGB").getcolors(1 << 24)) > 1000


def test_strict_fails_on_problems_only(clips, tmp_path, capsys):
    sheet = ("--sheet", tmp_path / "sheet.png", "--strict")
    code, shown = inspect(capsys, clips, *sheet)
    assert code == 2
    assert shown.err.splitlines()[-1] == "fv: 4 problems, and --strict allows none"
    assert inspect(capsys, f"{clips},match=cat/*", *sheet)[0] == 0


def test_what_pillow_warns_of_is_told_in_a_line(tmp_path, capsys, monkeypatch):
    for i in range(2):
        Image.new("RGB", (300, 200)).save(tmp_path / f"{i}.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)  # up to twice as many Pillow warns
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        code, _ = inspect(capsys, tmp_path, "--sheet", tmp_path.with_name("s.png"))
    assert (code, warned) == (0, [])


def test_only_decoding_every_frame_finds_damage_between(tmp_path, capsys):
    home = tmp_path / "clips"
    home.mkdir()
    videos.write(home / "a.mp4", videos.noise(4), "mp4")
    path = videos.write(home / "b.gif", videos.noise(12), "gif")
    data = bytearray(path.read_bytes())
    data[-2000:-1960] = bytes(40)  # in the last frames, after the middle one
    path.write_bytes(bytes(data))
    sheet = ("--sheet", tmp_path / "sheet.png")
    _, shown = inspect(capsys, home, *sheet, "--decode")
    assert "2 opened (every frame), 2 readable" in shown.out
    report = json.loads((tmp_path / "inspect.json").read_text())
    whole, broken = report["each"]
    assert whole == {
        "id": "a.mp4", "frames": 4, "seconds": pytest.approx(0.16), "width": 64, "height": 48,
        "text": "video", "notes": [],
    }  # fmt: skip
    lost = f"{12 - broken['frames']} of 12 frames cannot be decoded: left out"
    assert lost in broken["notes"]
    assert f"1 {lost}: b.gif" in shown.out


def test_what_lies_beside_the_clips_is_named(clips, tmp_path, capsys):
    (clips / "@eaDir" / "a.mp4").mkdir(parents=True)
    (clips / "@eaDir" / "a.mp4" / "SYNOPHOTO_THUMB_M.jpg").write_bytes(b"thumbnail")
    for name in ("notes.txt", "film.rmvb", ".DS_Store", "Thumbs.db"):
        (clips / name).write_bytes(b"words")
    sheet = tmp_path / "sheet.png"
    _, shown = inspect(capsys, clips, "--sheet", sheet)
    assert "left out   5 files and folders that are no clips" in shown.out
    assert "1 .rmvb files are not read: film.rmvb" in shown.out
    assert "1 a text that is no clip's caption: notes.txt" in shown.out
    assert "1 a folder of thumbnails, waste or settings: @eaDir" in shown.out
    left_out = json.loads((tmp_path / "inspect.json").read_text())["left_out"]
    assert left_out.keys() == {"@eaDir", "notes.txt", "film.rmvb", ".DS_Store", "Thumbs.db"}


def test_a_picture_of_the_source_is_no_place_for_the_sheet(tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    code, shown = inspect(capsys, tmp_path, "--sheet", tmp_path / "1.png")
    assert code == 2
    assert "is what is read" in shown.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png"]


def test_nor_is_one_that_lies_deeper(tmp_path, capsys):
    home = tmp_path / "clips" / "cats" / "one"
    home.mkdir(parents=True)
    for i in range(2):
        Image.new("RGB", (8, 8)).save(home / f"{i}.png")
    before = (home / "1.png").read_bytes()
    os.link(home / "1.png", tmp_path / "same.png")
    for sheet in (home / "1.png", tmp_path / "same.png"):
        code, shown = inspect(capsys, tmp_path / "clips", "--sheet", sheet)
        assert code == 2
        assert "is what is read" in shown.err
    assert (home / "1.png").read_bytes() == before
    sheet = tmp_path / "sheet.png"
    for _ in range(2):  # its own sheet is replaced
        assert inspect(capsys, "shapes,count=2", "--sheet", sheet)[0] == 0


def test_a_part_of_many_is_opened_evenly(tmp_path, capsys):
    sheet = ("--sheet", tmp_path / "sheet.png")
    _, shown = inspect(capsys, "shapes,split=test,count=100", "--probe", "5", *sheet)
    assert "100, 5 opened" in shown.out
    assert "10.6 s in these, about 3.5 min in all" in shown.out
    assert json.loads((tmp_path / "inspect.json").read_text())["readable"] == 5
    _, shown = inspect(capsys, "shapes,count=30", "--probe", "0", *sheet)
    assert "30, 30 opened" in shown.out
    assert "problems   none\n" in shown.out
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.height > 8 * 100  # 24 clips in rows of three


def test_listed_clips_that_are_missing_are_problems(clips, tmp_path, capsys):
    rows = [{"file_name": "cat/0.mp4", "text": "a cat"}, {"file_name": "gone.mp4", "text": "?"}]
    (clips / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, shown = inspect(capsys, clips, "--sheet", tmp_path / "sheet.png")
    assert "1 captions name it, but there is no such clip: gone.mp4" in shown.out
    assert "8 no caption: cat/1.mp4, cat/2.mp4, cut1.mp4" in shown.out


def test_many_problems_are_counted_and_some_named(tmp_path, capsys):
    videos.write(tmp_path / "good.mp4", videos.noise(3), "mp4")
    for i in range(14):
        (tmp_path / f"{i}.mp4").touch()
    _, shown = inspect(capsys, tmp_path, "--sheet", tmp_path / "out" / "sheet.png")
    names = ", ".join(f"{i}.mp4" for i in range(10))
    assert f"14 the file is empty: {names} and 4 more\n" in shown.out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["OUT/none"], "no folder"),
        (["OUT"], "none of 2 clips of"),
        (["OUT", "--sheet", "OUT/sheet.jpg"], "--sheet must name a .png file"),
        (["OUT", "--probe", "-1"], "--probe must be >= 0, got -1"),
        (["ufc:OUT"], "no such kind of source 'ufc'; there are"),
        ([], "fv data inspect --help"),
    ],
)
def test_mistakes_are_one_line(args, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").touch()
    (tmp_path / "b.mp4").write_bytes(b"words")
    code, shown = inspect(capsys, *[arg.replace("OUT", str(tmp_path)) for arg in args])
    assert code == 2
    line = shown.err.splitlines()[-1].split("\r")[-1].strip()
    assert line.startswith("fv: ")
    assert words in line
    assert shown.out == ""


def test_nothing_readable_still_leaves_the_list(tmp_path, capsys):
    (tmp_path / "a.mp4").touch()
    code, shown = inspect(capsys, tmp_path, "--sheet", tmp_path / "out" / "sheet.png")
    assert code == 2
    assert "a.mp4: the file is empty" in shown.err
    report = json.loads((tmp_path / "out" / "inspect.json").read_text())
    assert report["problems"] == [{"id": "a.mp4", "reason": "the file is empty"}]


def test_names_that_are_no_text(tmp_path, capsysbinary):
    name = b"b\xff\n.mp4".decode("utf-8", "surrogateescape")
    videos.write(tmp_path / "good.mp4", videos.noise(3), "mp4").rename(tmp_path / name)
    (tmp_path / f"empty{name}").touch()
    sheet = tmp_path / "out" / "sheet.png"
    assert main(["data", "inspect", str(tmp_path), "--sheet", str(sheet)]) == 0
    assert rb"the file is empty: emptyb\udcff .mp4" in capsysbinary.readouterr().out


def test_help_is_enough(capsys):
    assert main(["data", "--help"]) == 0
    assert main(["data", "inspect", "--help"]) == 0
    shown = capsys.readouterr().out
    words = ("--probe", "--decode", "--strict", "--sheet", "captions.jsonl")
    kinds = ("ucf101:", "kinetics600:", "bair:", "tfds:", "shapes,", "folder:")
    for word in (*words, *kinds):
        assert shown.count(word) >= 1, word
    assert main(["--help"]) == 0
    assert "fv data" in capsys.readouterr().out
