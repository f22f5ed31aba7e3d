"""Captions beside clips, in the shapes of other trainers; paths written in other ways."""

import json
import unicodedata

import pytest

from fv_jax.data.sources.folder import VideoFolder


@pytest.fixture
def home(tmp_path):
    """A folder `clips` with `cat.mp4` and `sub/dog.mp4`, which nothing opens."""
    folder = tmp_path / "clips"
    (folder / "sub").mkdir(parents=True)
    for name in ("cat.mp4", "sub/dog.mp4"):
        (folder / name).write_bytes(b"unread")
    return folder


def texts(folder):
    source = VideoFolder(name=str(folder), place=str(folder))
    return {source[i].id: source[i].text for i in range(len(source))}


def problems(folder):
    source = VideoFolder(name=str(folder), place=str(folder))
    return {problem.id: problem.reason for problem in source.problems}


BOTH = {"cat.mp4": "a cat", "sub/dog.mp4": "a dog"}
TABLES = {
    "metadata.csv": "file_name,text\ncat.mp4,a cat\nsub/dog.mp4,a dog\n",
    "metadata.jsonl": '{"video": "cat.mp4", "prompt": "a cat"}\n\n'
    '{"video": "sub/dog.mp4", "prompt": "a dog"}\n',
    "captions.tsv": "media_path\tcaption\ncat.mp4\ta cat\nsub/dog.mp4\ta dog\n",
    "captions.csv": "Video;Caption\ncat.mp4;a cat\nsub/dog.mp4;a dog\n",
    "prompts.csv": "\n\nfile_name,text\ncat.mp4,a cat\n\n,\nsub/dog.mp4,a dog\n,\n",  # blank rows
    "captions.json": json.dumps({"cat.mp4": ["a cat", "an animal"], "sub/dog.mp4": "a dog"}),
    "dataset.json": json.dumps(
        [{"path": "cat.mp4", "cap": ["a cat"]}, {"path": "sub/dog.mp4", "cap": ["a dog"]}]
    ),
    "dataset.jsonl": '{"video_path": "cat.mp4", "caption": "a cat"}\n'
    '{"video_path": "sub/dog.mp4", "caption": "a dog"}',
}


@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "mark"])
@pytest.mark.parametrize("name", TABLES)
def test_tables(name, mark, ends, home):
    text = TABLES[name] if name.endswith(".json") else TABLES[name].replace("\n", ends)
    (home / name).write_bytes(mark + text.encode())
    assert texts(home) == BOTH
    assert problems(home) == {}


def test_a_table_in_each_folder(home):
    (home / "metadata.csv").write_text("file_name,text\ncat.mp4,a cat\n")
    (home / "sub" / "metadata.csv").write_text("file_name,text\ndog.mp4,a dog\n")
    assert texts(home) == BOTH


def test_a_text_beside_each_clip(home):
    (home / "cat.txt").write_bytes(b"\xef\xbb\xbfa cat\r\n")
    (home / "sub" / "dog.mp4.txt").write_text("a\ndog\n\n")
    assert texts(home) == BOTH
    (home / "sub" / "bird.mp4").write_bytes(b"unread")
    (home / "fish.mp4").write_bytes(b"unread")
    (home / "fish.txt").write_bytes("ein Fisch".encode("utf-16"))
    assert texts(home) == BOTH
    found = problems(home)
    assert found.pop("fish.mp4").endswith("fish.txt is UTF-16 text; save it as UTF-8")
    assert found == {"sub/bird.mp4": "no caption"}


@pytest.mark.parametrize(
    ("clip", "text"),
    [
        (unicodedata.normalize("NFD", "über.mp4"), unicodedata.normalize("NFC", "über.txt")),
        (unicodedata.normalize("NFC", "über.mp4"), unicodedata.normalize("NFD", "über.txt")),
        ("Bird.MP4", "bird.TXT"),
    ],
)
def test_a_text_beside_a_clip_in_other_letters(clip, text, tmp_path):
    (tmp_path / clip).write_bytes(b"unread")
    (tmp_path / text).write_text("something flies")
    assert texts(tmp_path) == {clip: "something flies"}
    (tmp_path / clip).with_suffix(".txt").write_text("its own")  # counts before others
    assert texts(tmp_path) == {clip: "its own"}


def test_a_text_beside_a_folder_of_pictures(tmp_path):
    for number in range(2):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / f"{number}.jpg").write_bytes(b"unread")
    (tmp_path / "run.txt").write_text("somebody runs")
    assert texts(tmp_path) == {"run": "somebody runs"}


@pytest.mark.parametrize("prompts", ["prompt.txt", "prompts.txt", "captions.txt"])
def test_prompts_and_videos_line_by_line(prompts, home):
    (home / prompts).write_text("a cat\r\na dog\r\n\r\n")
    (home / "videos.txt").write_text("cat.mp4\nsub/dog.mp4\n")
    assert texts(home) == BOTH
    (home / prompts).write_text("a cat\n")
    with pytest.raises(ValueError, match=r"has 1 lines, videos\.txt 2; want as many"):
        texts(home)


def test_texts_that_are_no_captions_are_named_and_change_nothing(home):
    (home / "readme.txt").write_text("about these clips")
    (home / "data.json").write_text('{"version": 3}')
    source = VideoFolder(name=str(home), place=str(home))
    assert texts(home) == {"cat.mp4": "video", "sub/dog.mp4": "sub"}
    assert source.left_out == {
        "data.json": "a text that is no clip's caption",
        "readme.txt": "a text that is no clip's caption",
    }


@pytest.mark.parametrize(
    "written",
    [
        "sub\\dog.mp4", "./sub/dog.mp4", "sub//dog.mp4", "clips/sub/dog.mp4", "clips\\sub\\dog.mp4",
        "/mnt/disk/clips/sub/dog.mp4", "C:\\videos\\clips\\sub\\dog.mp4", "SUB/Dog.MP4", "sub/dog",
        "dog.mp4", "file:///mnt/sub/dog.mp4", "  sub/dog.mp4 ",
    ],
)  # fmt: skip
def test_paths_written_in_other_ways(written, home):
    (home / "captions.jsonl").write_text(json.dumps({"file_name": written, "text": "a dog"}))
    assert texts(home) == {"sub/dog.mp4": "a dog"}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_in_either_form_of_unicode(form, tmp_path):
    name = unicodedata.normalize("NFD" if form == "NFC" else "NFC", "café ü.mp4")
    (tmp_path / name).write_bytes(b"unread")
    row = {"file_name": unicodedata.normalize(form, "café ü.mp4"), "text": "a place"}
    (tmp_path / "captions.jsonl").write_text(json.dumps(row))
    assert texts(tmp_path) == {name: "a place"}


@pytest.mark.parametrize("written", ["other/dog.mp4", "cat.avi", "clips/cat", "sub"])
def test_another_clip_s_path_is_not_taken_for_one(written, home):
    (home / "captions.jsonl").write_text(json.dumps({"file_name": written, "text": "?"}))
    if written == "clips/cat":
        assert texts(home) == {"cat.mp4": "?"}
        return
    assert problems(home)[written] == "captions name it, but there is no such clip"


def test_paths_that_could_both_be_meant_are_not_guessed(home):
    rows = [{"file_name": f"/{place}/cat.mp4", "text": place} for place in ("a", "b")]
    (home / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert texts(home) == {}
    assert problems(home)["cat.mp4"] == "captions of /a/cat.mp4 and /b/cat.mp4 could both be meant"
