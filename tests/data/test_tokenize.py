"""Tokenizing a source: every clip's own ids, once, whatever happens meanwhile."""

import dataclasses
import json

import numpy as np
import pytest
import tiny

from fv_jax.config.model import TokenSettings
from fv_jax.data import tokenize as module
from fv_jax.data.sources.base import Problem
from fv_jax.data.token_cache import TokenFolder
from fv_jax.data.tokenize import tokenize
from fv_jax.media.readers import ClipError

SETTINGS = TokenSettings(fps=8.0, size=64, shard_clips=3, threads=2)
BROKEN = ClipError("not a video")


def clips(count, seed=0):
    lengths = np.random.default_rng(seed).integers(2, 12, count)
    return [tiny.video(int(n), seed=i) for i, n in enumerate(lengths)]


def expected(clip):
    return tiny.MeanTokenizer().encode(clip).reshape(len(clip), -1)


def contents(tokens):
    return [
        (about["id"], tokens[i][0], tokens[i][1].tolist()) for i, about in enumerate(tokens.clips)
    ]


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_every_clip_has_its_text_and_the_ids_of_its_frames(tmp_path, monkeypatch, batch):
    monkeypatch.setattr(module, "_BATCH_FRAMES", batch)
    videos = clips(8)
    tokens = tokenize(tiny.ListSource(videos), tiny.MeanTokenizer(), tmp_path, SETTINGS)
    assert len(tokens) == 8
    for i, video in enumerate(videos):
        text, ids = tokens[i]
        assert (text, tokens.clips[i]["id"]) == (f"clip {i}", f"clip/{i}")
        assert ids.dtype == np.uint16
        np.testing.assert_array_equal(ids, expected(video))


def test_the_manifest_says_what_the_ids_are(tmp_path):
    videos = clips(4)
    made = tokenize(tiny.ListSource(videos), tiny.MeanTokenizer(), tmp_path, SETTINGS).manifest
    assert (made.tokenizer, made.codebook_size, made.grid) == ("means", 32, (4, 4))
    assert (made.fps, made.size, made.entries, made.clips) == (8.0, 64, 4, 4)
    assert made.frames == sum(map(len, videos))
    assert (made.complete, made.left_out) == (True, ())
    assert {"date", "jax", "machine"} <= set(made.made)


def test_unusable_clips_are_left_out_reported_once_and_counted(tmp_path, capsys):
    videos = [*clips(2), BROKEN, *clips(1), ClipError("too dark")]
    tokens = tokenize(tiny.ListSource(videos), tiny.MeanTokenizer(), tmp_path, SETTINGS)
    assert [clip["id"] for clip in tokens.clips] == ["clip/0", "clip/1", "clip/3"]
    left_out = [
        {"id": "clip/2", "reason": "not a video"},
        {"id": "clip/4", "reason": "too dark"},
    ]
    assert list(tokens.manifest.left_out) == left_out
    errors = capsys.readouterr().err
    assert errors.count("clip/2: not a video") == errors.count("clip/4: too dark") == 1


def test_a_shard_without_any_usable_clip_is_no_problem(tmp_path):
    videos = [BROKEN, BROKEN, BROKEN, *clips(2)]
    tokens = tokenize(tiny.ListSource(videos), tiny.MeanTokenizer(), tmp_path, SETTINGS)
    assert [clip["id"] for clip in tokens.clips] == ["clip/3", "clip/4"]
    np.testing.assert_array_equal(tokens[0][1], expected(videos[3]))


def test_no_usable_clip_at_all_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"none of the 2 clips of list can be used, e\.g\. clip/0"):
        tokenize(tiny.ListSource([BROKEN, BROKEN]), tiny.MeanTokenizer(), tmp_path, SETTINGS)


def test_no_folder_is_made_of_clips_none_of_which_opens(tmp_path):
    words = r"none of 2 clips of list can be read, e\.g\. clip/0: not a video"
    with pytest.raises(ValueError, match=words):
        tokenize(tiny.ListSource([BROKEN] * 2), tiny.MeanTokenizer(), tmp_path / "new", SETTINGS)
    assert not (tmp_path / "new").exists()


class NotedSource(tiny.ListSource):
    """Clips of which there is something to know."""

    def __getitem__(self, index):
        entry = super().__getitem__(index)

        def opened():
            reader = entry.open()
            reader.notes = [f"{index} of 9 frames cannot be decoded"] + ["HDR"] * (index == 1)
            return reader

        return dataclasses.replace(entry, open=opened)


def test_what_there_is_to_know_of_clips_is_said_once_a_kind(tmp_path, capsys):
    tokenize(NotedSource(clips(3)), tiny.MeanTokenizer(), tmp_path, SETTINGS)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fv: ")]
    assert lines == [
        "fv: 3 clips, such as clip/0: 0 of 9 frames cannot be decoded",
        "fv: 1 clips, such as clip/1: HDR",
    ]


class DeadTokenizer(tiny.MeanTokenizer):
    """One id for every patch."""

    def encode(self, frames):
        return np.zeros_like(super().encode(frames))


def test_a_dead_tokenizer_stops_before_the_second_shard_and_whenever_it_is_asked_again(tmp_path):
    made = lambda **more: tokenize(
        tiny.ListSource(clips(7)), DeadTokenizer(), tmp_path, dataclasses.replace(SETTINGS, **more)
    )
    with pytest.raises(ValueError, match=r"dead on list.*: 1 of 32 codes in use.*--force goes on"):
        made()
    assert len(list(tmp_path.glob("*.array_record"))) == 1
    assert len(made(force=True)) == 7
    with pytest.raises(ValueError, match="dead"):
        made()


def test_strict_stops_at_the_first_unusable_clip(tmp_path):
    settings = dataclasses.replace(SETTINGS, strict=True)
    with pytest.raises(ValueError, match="clip/1: not a video"):
        tokenize(tiny.ListSource([*clips(1), BROKEN]), tiny.MeanTokenizer(), tmp_path, settings)


def test_strict_stops_at_what_was_left_out_before(tmp_path, capsys):
    source, strict = (
        tiny.ListSource([*clips(1), BROKEN]),
        dataclasses.replace(SETTINGS, strict=True),
    )
    tokenize(source, tiny.MeanTokenizer(), tmp_path / "made", SETTINGS)
    with pytest.raises(ValueError, match=r"1 clips of .*made, e\.g\. clip/1: not a video"):
        tokenize(source, tiny.MeanTokenizer(), tmp_path / "made", strict)
    source = tiny.ListSource(clips(1))
    source.problems = [Problem("clip/1", "no such file")]
    with pytest.raises(ValueError, match=r"1 clips of list, e\.g\. clip/1: no such file"):
        tokenize(source, tiny.MeanTokenizer(), tmp_path / "new", strict)
    assert not (tmp_path / "new" / "manifest.json").exists()
    tokens = tokenize(source, tiny.MeanTokenizer(), tmp_path / "new", SETTINGS)
    assert len(tokens.manifest.left_out) == 1
    assert "left out 1 clips of list, e.g. clip/1: no such file" in capsys.readouterr().err


def test_long_clips_are_cut_into_pieces(tmp_path):
    video = tiny.video(21)
    settings = dataclasses.replace(SETTINGS, piece_seconds=1.25)  # 10 frames
    tokens = tokenize(tiny.ListSource([video]), tiny.MeanTokenizer(), tmp_path, settings)
    # The rest is a single frame, which is no clip.
    assert [(c["id"], c["frames"]) for c in tokens.clips] == [("clip/0#0", 10), ("clip/0#1", 10)]
    np.testing.assert_array_equal(tokens[1][1], expected(video)[10:20])


def test_a_film_s_pieces_are_decoded_one_after_the_other_with_the_same_ids(tmp_path, monkeypatch):
    videos = [*clips(1), tiny.video(60), *clips(2, seed=1)]
    settings = dataclasses.replace(SETTINGS, piece_seconds=1.25)
    source, tokenizer = tiny.ListSource(videos), tiny.MeanTokenizer()
    film = tokenize(source, tokenizer, tmp_path / "film", settings)
    assert [clip["frames"] for clip in film.clips].count(10) >= 6
    monkeypatch.setattr(module, "_MOST_PIECES", 100)
    whole = tokenize(tiny.ListSource(videos), tokenizer, tmp_path / "whole", settings)
    assert contents(film) == contents(whole)


def test_a_film_that_breaks_off_is_left_out_as_a_whole(tmp_path, monkeypatch):
    read = module.read_pieces

    def break_off(reader, pieces, size):
        for number, piece in enumerate(read(reader, pieces, size)):
            if number == 2:
                raise ClipError("frame 25 is damaged")
            yield piece

    monkeypatch.setattr(module, "read_pieces", break_off)
    settings = dataclasses.replace(SETTINGS, piece_seconds=1.25, threads=1)
    source = tiny.ListSource([tiny.video(60), *clips(2)])
    monkeypatch.setattr(module, "cores", lambda: 0)  # nothing is decoded ahead
    tokens = tokenize(source, tiny.MeanTokenizer(), tmp_path, settings)
    assert {clip["whole"] for clip in tokens.clips} == {"clip/1", "clip/2"}
    assert tokens.manifest.left_out[0] == {"id": "clip/0", "reason": "frame 25 is damaged"}


def test_frames_are_taken_at_the_rate_asked_for(tmp_path):
    video = tiny.video(11)
    settings = dataclasses.replace(SETTINGS, fps=4.0)
    tokens = tokenize(tiny.ListSource([video]), tiny.MeanTokenizer(), tmp_path, settings)
    np.testing.assert_array_equal(tokens[0][1], expected(video)[::2])


class Stopped(BaseException):
    """Stands for whatever ends the process."""


@pytest.mark.parametrize("after", range(0, 9))
def test_a_run_that_was_stopped_anywhere_goes_on_without_redoing_a_clip(
    tmp_path, monkeypatch, after
):
    monkeypatch.setattr(module, "_BATCH_FRAMES", 1)
    videos = [*clips(7), BROKEN, *clips(1)]
    whole = tokenize(tiny.ListSource(videos), tiny.MeanTokenizer(), tmp_path / "whole", SETTINGS)
    append, done = module.Journal.append, []

    def stop(self, record):
        if len(done) == after:
            raise Stopped
        done.append(record)
        append(self, record)

    with monkeypatch.context() as patch:
        patch.setattr(module.Journal, "append", stop)
        with pytest.raises(Stopped):
            tokenize(tiny.ListSource(videos), tiny.MeanTokenizer(), tmp_path / "cut", SETTINGS)
    with pytest.raises(ValueError, match="not finished"):
        TokenFolder(tmp_path / "cut")
    source = tiny.ListSource(videos)
    resumed = tokenize(source, tiny.MeanTokenizer(), tmp_path / "cut", SETTINGS)
    assert sorted(source.opened) == list(range(after, 9))
    assert contents(resumed) == contents(whole)
    assert resumed.manifest.left_out == whole.manifest.left_out


def test_a_finished_folder_is_only_opened(tmp_path):
    source, tokenizer = tiny.ListSource(clips(4)), tiny.MeanTokenizer()
    first = tokenize(source, tokenizer, tmp_path, SETTINGS)
    source.opened.clear()
    again = tokenize(source, tokenizer, tmp_path, SETTINGS)
    assert not source.opened
    assert contents(again) == contents(first)


@pytest.mark.parametrize(
    ("source", "tokenizer", "settings", "message"),
    [
        (
            tiny.ListSource(clips(4)),
            tiny.MeanTokenizer("other"),
            SETTINGS,
            "tokenizer means instead",
        ),
        (tiny.ListSource(clips(5)), tiny.MeanTokenizer(), SETTINGS, "entries 4 instead of 5"),
        (
            tiny.ListSource(clips(4)),
            tiny.MeanTokenizer(),
            dataclasses.replace(SETTINGS, fps=4.0),
            "fps 8.0 instead of 4.0",
        ),
        (
            tiny.ListSource(clips(4), texts=["other"] * 4),
            tiny.MeanTokenizer(),
            SETTINGS,
            "entries_hash",
        ),
        (
            tiny.ListSource(clips(4), name="list,camera=image_main"),
            tiny.MeanTokenizer(),
            SETTINGS,
            "source list instead of list,camera=image_main",
        ),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_of_other_tokens_is_refused_and_left_alone(
    tmp_path, source, tokenizer, settings, message, finished
):
    tokenize(tiny.ListSource(clips(4)), tiny.MeanTokenizer(), tmp_path, SETTINGS)
    path = tmp_path / "manifest.json"
    if not finished:
        path.write_text(json.dumps({**json.loads(path.read_text()), "complete": False}))
    before = {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    with pytest.raises(ValueError, match=message):
        tokenize(source, tokenizer, tmp_path, settings)
    assert {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before


def test_sizes_that_the_tokenizer_cannot_take_are_refused(tmp_path):
    settings = dataclasses.replace(SETTINGS, size=60)
    with pytest.raises(ValueError, match="--size must be a multiple of 16 px, got 60"):
        tokenize(tiny.ListSource(clips(2)), tiny.MeanTokenizer(), tmp_path, settings)


def test_noise_free_clips_are_encoded_frame_by_frame(tmp_path):
    source, tokenizer = tiny.ListSource(clips(2)), tiny.MeanTokenizer()
    source.noise_free = True
    tokenizer.encode_clips = pytest.fail
    tokens = tokenize(source, tokenizer, tmp_path, SETTINGS)
    np.testing.assert_array_equal(tokens[1][1], expected(source.clips[1]))
