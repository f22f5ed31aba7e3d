"""The text that names a source: kinds, places, options, and paths that look like them."""

import hypothesis
import hypothesis.strategies as st
import pytest
import videos

from fv_jax.data.sources import base as sources
from fv_jax.data.sources.base import open_source, parse

PLAIN = st.text("abc XYZ09._-/:", min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("name", "kind", "place", "options"),
    [
        ("clips", "folder", "clips", {}),
        ("/data/my clips/", "folder", "/data/my clips/", {}),
        ("folder:clips", "folder", "clips", {}),
        ("clips,match=*.mp4", "folder", "clips", {"match": "*.mp4"}),
        ("a,b", "folder", "a,b", {}),
        ("C:/clips", "folder", "C:/clips", {}),
        ("ucf101:D,split=test,list=2", "ucf101", "D", {"split": "test", "list": "2"}),
        ("bair:D:E,split=test", "bair", "D:E", {"split": "test"}),
        ("shapes", "shapes", "", {}),
        ("shapes,split=train,count=10", "shapes", "", {"split": "train", "count": "10"}),
        ("shapes:count=10,split=train", "shapes", "", {"split": "train", "count": "10"}),
        ("arcade:games=pong+qbert", "arcade", "", {"games": "pong+qbert"}),
        ("folder:x,match=a=b", "folder", "x", {"match": "a=b"}),
        ("folder:x,match=", "folder", "x", {"match": ""}),
        ("folder:x=1,A=b", "folder", "x=1,A=b", {}),
    ],
)
def test_kind_place_and_options(name, kind, place, options):
    assert parse(name) == (kind, place, options)


def test_a_text_longer_than_any_path_names_a_source_all_the_same():
    kind, _, options = parse(f"shapes,split={'a' * 5000}")
    assert kind == "shapes"
    assert len(options["split"]) == 5000


@pytest.mark.parametrize(
    "name",
    ["a,match=b", "a,b=c,match=d", "q:r", "with space", "x=y", "shapes", "ucf101:x", "a:b,c=d"],
)
def test_a_folder_that_is_there_is_a_place_whatever_its_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    kind, place, options = parse(f"folder:{name}")
    assert (kind, place, options) == ("folder", name, {})
    assert parse(f"folder:{name},match=*.gif") == ("folder", name, {"match": "*.gif"})
    if not name.startswith("ucf101:"):  # a kind with a colon is always one
        assert parse(name) == ("folder", name, {})
    assert parse(str(tmp_path / name)) == ("folder", str(tmp_path / name), {})


@hypothesis.given(
    st.sampled_from(sorted(sources.SOURCES)),
    PLAIN,
    st.dictionaries(st.text("abc_", min_size=1, max_size=5), st.text("ab=: */.1", max_size=8)),
)
def test_what_is_written_is_read(kind, place, options):
    text = f"{kind}:{place}" + "".join(f",{k}={v}" for k, v in options.items())
    assert parse(text) == (kind, place, options)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "ufc101:clips",
            r"no such kind of source 'ufc101'; did you mean 'ucf101'\?",
        ),
        ("shapes:train", r"shapes takes no place, got 'train'"),
        ("folder:", r"folder needs a place, such as folder:PATH; got 'folder:'"),
        ("shapes,count=many", r"shapes's option count must be a number, got 'many'"),
        ("shapes,split=train,split=test", r"option split is given twice"),
        ("shapes,size=3", r"shapes has no option 'size'; there are: split, count"),
        ("shapes,name=x", r"shapes has no option 'name'; there are"),
        ("shapes,place=x", r"shapes has no option 'place'; there are"),
        ("shapes,split=nosuch", r"nosuch"),
        ("shapes,count=0", "shapes's count must be >= 1, got 0"),
    ],
)
def test_mistakes_are_one_clear_line(name, words):
    with pytest.raises(ValueError, match=words) as caught:
        open_source(name)
    assert "\n" not in str(caught.value)


def test_a_missing_folder():
    with pytest.raises(FileNotFoundError, match="no folder '/no/such'"):
        open_source("/no/such")


def test_an_empty_folder_tells_what_is_there_instead(tmp_path):
    with pytest.raises(ValueError, match=rf"^no clips in {tmp_path}$"):
        open_source(str(tmp_path))
    for name in ("a.mxf", "b.mxf", ".hidden.mp4"):
        (tmp_path / name).touch()
    words = (
        r"\(3 files and folders are no clips: \.mxf files are not read \(2\); hidden file \(1\), "
        r"such as \.hidden\.mp4\)"
    )
    with pytest.raises(ValueError, match=words):
        open_source(str(tmp_path))


def test_captions_of_other_clips_tell_what_was_compared(tmp_path):
    for name in ("a.mp4", "c.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "captions.jsonl").write_text('{"file_name": "x/b.mp4", "text": "a"}\n')
    words = r"\(a\.mp4: no caption; x/b\.mp4: captions name it, but there is no such clip\)"
    with pytest.raises(ValueError, match=words):
        open_source(str(tmp_path))


def test_options_reach_the_source(tmp_path):
    videos.write(tmp_path / "a.mp4", videos.noise(3), "mp4")
    videos.write(tmp_path / "b.gif", videos.noise(3), "gif")
    source = open_source(f"folder:{tmp_path},match=*.gif,picture_fps=12.5")
    assert (len(source), source[0].id) == (1, "b.gif")
    assert source.name == f"folder:{tmp_path},match=*.gif,picture_fps=12.5"
    again = open_source(source.name)
    assert again[0].id == source[0].id


def test_shapes_as_a_source():
    source = open_source("shapes,split=test,count=3")
    assert (len(source), source.noise_free, source.problems) == (3, True, [])
    entries = [source[i] for i in range(3)]
    assert [entry.id for entry in entries] == ["test/000000", "test/000001", "test/000002"]
    reader = entries[2].open()
    assert reader.frames([0, 16]).shape == (2, 64, 64, 3)
    assert reader.times[8] == 1
    assert entries[2].text.startswith("a ")
    for index in (-1, 3):
        with pytest.raises(IndexError, match=r"0\.\.2"):
            source[index]


class Twice:
    """A source from outside: one clip, two times."""

    noise_free = True
    problems = ()

    def __init__(self, *, name: str, place: str, text: str = "a clip", fps: float = 8.0):
        self.name, self.place, self.text, self.fps = name, place, text, fps

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return sources.Entry(f"{self.place}/{index}", self.text, lambda: None)


def test_a_source_from_outside_is_opened_like_any_other(monkeypatch):
    monkeypatch.setattr(sources.SOURCES, "_things", {**sources.SOURCES._things})
    sources.SOURCES.register("twice", Twice)
    source = open_source("twice:here,text=a dog,fps=4")
    assert (source[1].id, source[1].text, source.fps) == ("here/1", "a dog", 4.0)
    with pytest.raises(ValueError, match="twice has no option 'size'; there are: text, fps"):
        open_source("twice:here,size=3")
