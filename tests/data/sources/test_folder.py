"""A folder of your own videos: which clips it has, in which order, and what they are called."""

import csv
import json
import os

import numpy as np
import pytest
import videos
from PIL import Image

from fv_jax.data.sources.folder import VideoFolder
from fv_jax.media.opening import open_clip
from fv_jax.media.readers import ClipError


def touch(folder, *names):
    """Files that look like videos and cannot be read: nothing may open them yet."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"unread")


def open_folder(place, **options):
    return VideoFolder(name=str(place), place=str(place), **options)


def ids(source):
    return [source[i].id for i in range(len(source))]


def problems(source):
    return {problem.id: problem.reason for problem in source.problems}


def pictures(folder, count, names="{}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(videos.noise(count, (24, 32))):
        Image.fromarray(frame).save(folder / names.format(i))


def test_videos_of_all_kinds_are_found_in_natural_order(tmp_path):
    touch(tmp_path, "b10.mp4", "b9.AVI", "a/x.gif", "a/y.webm", "a/deep/er/z.MOV", "notes.txt")
    touch(tmp_path, ".hidden.mp4", ".cache/c.mp4", "a/thumbnail.jpg")
    source = open_folder(tmp_path)
    assert ids(source) == ["a/deep/er/z.MOV", "a/x.gif", "a/y.webm", "b9.AVI", "b10.mp4"]
    assert ids(open_folder(tmp_path)) == ids(source)
    assert source.problems == []


def test_names_may_hold_anything(tmp_path):
    names = ["a,b=c.mp4", "q:r.mp4", "s t.mp4", "ü.mp4", "*[x]?.mp4", "line\nbreak.mp4"]
    touch(tmp_path, *names)
    assert set(ids(open_folder(tmp_path))) == set(names)
    assert ids(open_folder(tmp_path, match="**[x]?*")) == ["*[x]?.mp4"]
    assert ids(open_folder(tmp_path, match="line*")) == ["line\nbreak.mp4"]


def test_names_that_are_no_text_are_still_ids_and_texts(tmp_path):
    touch(tmp_path, b"b\xff/\xff.mp4".decode("utf-8", "surrogateescape"))
    source = open_folder(tmp_path)
    assert (source[0].id, source[0].text) == ("b\\udcff/\\udcff.mp4", "b\\udcff")
    with pytest.raises(ClipError, match="not a video"):
        source[0].open()


def test_a_pattern_chooses_clips(tmp_path):
    touch(tmp_path, "train/a/1.mp4", "train/b/2.mp4", "test/a/3.mp4")
    assert ids(open_folder(tmp_path, match="train/*")) == ["train/a/1.mp4", "train/b/2.mp4"]
    assert ids(open_folder(tmp_path, match="*/a/*.mp4")) == ["test/a/3.mp4", "train/a/1.mp4"]
    assert len(open_folder(tmp_path, match="train")) == 0


def test_the_class_is_the_folder_as_words(tmp_path):
    touch(tmp_path, "jumping_jack/1.mp4", "x/ice-cream  van/2.mp4", "3.mp4", "_/4.mp4")
    texts = {entry.id: entry.text for entry in map(open_folder(tmp_path).__getitem__, range(4))}
    assert texts == {
        "3.mp4": "video",
        "_/4.mp4": "video",
        "jumping_jack/1.mp4": "jumping jack",
        "x/ice-cream  van/2.mp4": "ice cream van",
    }


def test_folders_of_pictures_are_clips(tmp_path):
    pictures(tmp_path / "run" / "one", 12)
    pictures(tmp_path / "run" / "two", 3, "frame_{:04d}.jpg")
    touch(tmp_path, "run/mixed/a.mp4", "run/mixed/a.png")
    source = open_folder(tmp_path, picture_fps=10.0)
    assert ids(source) == ["run/mixed/a.mp4", "run/one", "run/two"]
    reader = source[1].open()
    assert source[1].text == "run"
    np.testing.assert_allclose(reader.times, np.arange(12) / 10)
    # 9 before 10 and 11.
    np.testing.assert_array_equal(reader.frames(range(12)), videos.noise(12, (24, 32)))


def test_a_folder_that_is_one_clip_itself(tmp_path):
    pictures(tmp_path, 4)
    source = open_folder(tmp_path)
    assert (ids(source), source[0].text) == (["."], "video")
    assert len(source[0].open().times) == 4


def test_clips_are_opened_when_asked_for(tmp_path):
    videos.write(tmp_path / "good.mp4", videos.noise(5), "mp4")
    touch(tmp_path, "bad.mp4")
    pictures(tmp_path / "single", 1)
    source = open_folder(tmp_path)
    assert ids(source) == ["bad.mp4", "good.mp4", "single"]
    assert len(source[1].open().times) == 5
    with pytest.raises(ClipError, match="not a video"):
        source[0].open()
    with pytest.raises(ClipError, match="at least 2 frames, got 1"):
        source[2].open()
    (tmp_path / "good.mp4").unlink()
    with pytest.raises(ClipError, match="No such file"):
        source[1].open()


@pytest.mark.parametrize("picture_fps", [0.0, -1.0, float("nan"), float("inf")])
def test_a_picture_rate_that_makes_no_sense(picture_fps, tmp_path):
    with pytest.raises(ValueError, match="picture_fps must be > 0"):
        open_folder(tmp_path, picture_fps=picture_fps)


def test_no_such_folder_and_a_file_in_its_place(tmp_path):
    touch(tmp_path, "a.mp4")
    for place in (tmp_path / "none", tmp_path / "a.mp4"):
        with pytest.raises(FileNotFoundError, match=r"no folder .*fv data inspect --help"):
            open_folder(place)


def test_links_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path, "clips/a/1.mp4", "elsewhere/2.mp4")
    os.symlink(tmp_path / "elsewhere", tmp_path / "clips" / "linked")
    os.symlink(tmp_path / "clips", tmp_path / "clips" / "a" / "circle")
    assert ids(open_folder(tmp_path / "clips")) == ["a/1.mp4", "linked/2.mp4"]


def write_captions(path, rows, bom=False):
    encoding = "utf-8-sig" if bom else "utf-8"
    with path.open("w", encoding=encoding, newline="") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


CAPTIONS = [
    {"file_name": "b.mp4", "text": "a cat, and a “dog”"},
    {"file_name": "./sub//a.mp4", "text": "  two\nlines \t and spaces\u2028"},
]


@pytest.mark.parametrize("bom", [False, True])
@pytest.mark.parametrize("name", ["captions.jsonl", "captions.csv", "metadata.jsonl"])
def test_captions(name, bom, tmp_path):
    touch(tmp_path, "b.mp4", "sub/a.mp4")
    write_captions(tmp_path / name, CAPTIONS, bom)
    source = open_folder(tmp_path)
    assert {source[i].id: source[i].text for i in range(2)} == {
        "b.mp4": "a cat, and a “dog”",
        "sub/a.mp4": "two lines and spaces",
    }
    assert source.problems == []


@pytest.mark.parametrize(("file", "text"), [("video", "caption"), ("path", "text")])
def test_other_names_of_the_columns(file, text, tmp_path):
    touch(tmp_path, "b.mp4")
    write_captions(tmp_path / "captions.csv", [{"id": "7", file: "b.mp4", text: "a cat"}])
    assert open_folder(tmp_path)[0].text == "a cat"


@pytest.mark.parametrize("name", ["captions.jsonl", "captions.csv"])
def test_captions_and_clips_that_do_not_match_are_problems(name, tmp_path):
    touch(tmp_path, "good.mp4", "untold.mp4", "empty.mp4")
    rows = [
        {"file_name": "good.mp4", "text": "first"},
        {"file_name": "gone.mp4", "text": "nothing"},
        {"file_name": "empty.mp4", "text": ""},
        {"file_name": "good.mp4", "text": "second"},
    ]
    write_captions(tmp_path / name, rows)
    source = open_folder(tmp_path)
    assert [(source[i].id, source[i].text) for i in range(len(source))] == [("good.mp4", "second")]
    assert problems(source) == {
        "empty.mp4": "no caption",
        "gone.mp4": "captions name it, but there is no such clip",
        "good.mp4": "two captions; the last one counts",
        "untold.mp4": "no caption",
    }
    assert [p.id for p in source.problems] == sorted(p.id for p in source.problems)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("captions.jsonl", b'{"file_name": "a.mp4"}\n', r"line 1: want file_name and text, got"),
        ("captions.jsonl", b'\n{"text": "a"}\n', r"line 2: want file_name and text"),
        ("captions.jsonl", b'{"file_name": "a.mp4", "text": 7}\n', "want file_name and text"),
        ("captions.jsonl", b'{"file_name": "a.mp4", "te', r"line 1: not JSON"),
        ("captions.jsonl", b'["a.mp4", "a cat"]\n', r"line 1: want an object, got \["),
        ("captions.jsonl", b'{"file_name": "a.mp4", "text": "\xff"}\n', "no UTF-8 text file"),
        ("captions.csv", b"clip;words\na.mp4;a cat\n", "line 2: want file_name and text"),
        ("captions.csv", b"\xff\xfef\0i\0", "UTF-16 text; save it as UTF-8"),
        ("captions.csv", b'file_name,text\na.mp4,"' + b"a\n" * 70_000, "not CSV"),
    ],
)
def test_a_wrong_file_of_captions_is_named(name, content, words, tmp_path):
    touch(tmp_path, "a.mp4")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}.*{words}"):
        open_folder(tmp_path)


def test_two_files_of_captions_are_one_too_many(tmp_path):
    for name in ("captions.jsonl", "metadata.csv"):
        write_captions(tmp_path / name, CAPTIONS)
    with pytest.raises(ValueError, match=r"captions\.jsonl and metadata\.csv; keep one"):
        open_folder(tmp_path)


def test_one_clip_by_its_path(tmp_path):
    pictures(tmp_path / "frames", 3)
    videos.write(tmp_path / "a.gif", videos.noise(4), "gif")
    assert len(open_clip(tmp_path / "frames").times) == 3
    assert len(open_clip(tmp_path / "a.gif").times) == 4
    assert len(open_clip(tmp_path / "frames" / "0.png", least=1).times) == 1
    with pytest.raises(ClipError, match="at least 2 frames, got 0"):
        open_clip(tmp_path)
