"""Data of a training: which clips are seen, which are held out, and what does not match."""

import dataclasses

import numpy as np
import pytest
import tiny

from fv_jax.config.model import TokenSettings
from fv_jax.config.training import NetworkExperiment
from fv_jax.data.token_cache import TokenFolder
from fv_jax.data.tokenize import tokenize
from fv_jax.media.writers import write_mp4
from fv_jax.tokenizers.fsq import FSQTokenizer
from fv_jax.training.tasks.network_data import network_data

CONFIG = NetworkExperiment(
    "tiny", key_frames=2, key_frame_stride=4, insertions=((4, 3),), text_tokens=0, size=64
)
SETTINGS = TokenSettings(fps=8.0, size=64)
LENGTHS = (5, 9, 4, 12, 7, 5)  # the third is too short


class Numbered(tiny.ListSource):
    """Ids that look like pieces of one clip."""

    def __getitem__(self, index):
        return dataclasses.replace(super().__getitem__(index), id=f"clip#{index}")


def tokens(folder, lengths=LENGTHS, settings=SETTINGS, levels=(4, 3, 3), kind=tiny.ListSource):
    videos = [tiny.video(n, seed=i) for i, n in enumerate(lengths)]
    trained = tiny.frames(dataclasses.replace(tiny.TOKENIZER, levels=levels))
    folder.mkdir()
    trained.save(folder / "any.safetensors")  # as bfloat16
    tokenizer = FSQTokenizer.load(folder / "any.safetensors")
    tokenize(kind(videos), tokenizer, folder, settings)
    return str(folder)


def texts(clips):
    return [clips.draw(i, np.random.default_rng(0))[0] for i in range(len(clips))]


def test_a_folder_of_tokens_needs_nothing_else(tmp_path, capsys):
    data = network_data(
        dataclasses.replace(CONFIG, data=tokens(tmp_path / "t"), valid_share=0.4), tmp_path
    )
    assert data.ids.tokenizer.fingerprint() == data.train.tokens.manifest.tokenizer
    assert (data.ids.grid, data.ids.fps) == ((4, 4), 8.0)
    seen, kept = set(texts(data.train)), set(texts(data.valid))
    assert not seen & kept
    assert seen | kept == {f"clip {i}" for i in range(6)} - {"clip 2"}
    assert data.train.texts == texts(data.train)
    assert "have fewer than 5 frames at 8 fps" in capsys.readouterr().err


def test_pieces_of_one_clip_stay_on_one_side(tmp_path):
    settings = dataclasses.replace(SETTINGS, piece_seconds=0.625)  # 5 frames
    folder = tokens(tmp_path / "t", (20, 20, 20, 20), settings)
    data = network_data(dataclasses.replace(CONFIG, data=folder, valid_share=0.5), tmp_path)
    assert sorted(map(len, (data.train, data.valid))) == [8, 8]
    assert not set(texts(data.train)) & set(texts(data.valid))


def test_names_that_look_like_pieces_are_clips_of_their_own(tmp_path):
    folder = tokens(tmp_path / "t", (9, 9, 9, 9), kind=Numbered)
    data = network_data(dataclasses.replace(CONFIG, data=folder, valid_share=0.5), tmp_path)
    assert list(map(len, (data.train, data.valid))) == [2, 2]


def test_other_tokens_may_be_for_evaluation(tmp_path):
    config = dataclasses.replace(
        CONFIG, data=tokens(tmp_path / "a"), valid=tokens(tmp_path / "b", (9, 9))
    )
    data = network_data(config, tmp_path)
    assert (len(data.train), len(data.valid)) == (5, 2)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"levels": (3, 3, 3)}, "has tokenizer"),
        ({"settings": dataclasses.replace(SETTINGS, fps=4.0)}, r"has fps 4\.0"),
        ({"settings": dataclasses.replace(SETTINGS, size=32)}, r"has grid \(2, 2\)"),
    ],
)
def test_tokens_for_evaluation_must_match(tmp_path, other, message):
    config = dataclasses.replace(
        CONFIG, data=tokens(tmp_path / "a"), valid=tokens(tmp_path / "b", (12, 12), **other)
    )
    with pytest.raises(ValueError, match=message):
        network_data(config, tmp_path)


def test_of_one_clip_the_last_frames_are_held_out(tmp_path, capsys):
    config = dataclasses.replace(CONFIG, data=tokens(tmp_path / "t", (24,)))
    data = network_data(config, tmp_path)
    assert "is one clip: its last third is held out" in capsys.readouterr().err
    rng = np.random.default_rng(0)
    text, whole = TokenFolder(tmp_path / "t")[0]
    for part, frames in ((data.train, whole[:16]), (data.valid, whole[16:])):
        assert (len(part), part.texts) == (1, [text])
        assert part.draw(0, rng)[0] == text
        np.testing.assert_array_equal(part.draw(0, rng)[1], frames)


def test_of_one_long_clip_the_last_pieces_are_held_out(tmp_path):
    pieces = dataclasses.replace(SETTINGS, piece_seconds=1)  # 8 frames
    data = network_data(
        dataclasses.replace(CONFIG, data=tokens(tmp_path / "t", (24,), pieces)), tmp_path
    )
    assert (len(data.train), len(data.valid)) == (2, 1)


def test_only_short_clips_are_refused(tmp_path):
    config = dataclasses.replace(CONFIG, data=tokens(tmp_path / "t", (4, 4, 4)))
    with pytest.raises(
        ValueError, match=r"no clip of .* has 5 frames at 8 fps; lower --key-frames"
    ):
        network_data(config, tmp_path)


@pytest.fixture
def folder(tmp_path):
    """A folder of small videos at 8 fps, one of them no video at all."""
    home = tmp_path / "clips"
    for i in range(4):
        write_mp4(tiny.video(10, seed=i), 8.0, home / f"{i}.mp4")
    (home / "broken.mp4").write_text("not a video")
    return home


@pytest.fixture
def tokenizer(tmp_path):
    path = tmp_path / "tokenizer.safetensors"
    tiny.frames().save(path)
    return str(path)


def test_a_source_is_tokenized_once(tmp_path, folder, tokenizer, capsys):
    config = dataclasses.replace(CONFIG, data=str(folder), tokenizer=tokenizer)
    first = network_data(config, tmp_path / "tokens")
    (made,) = (tmp_path / "tokens").iterdir()
    stamps = {path: path.stat().st_mtime_ns for path in made.glob("*.array_record")}
    again = network_data(config, tmp_path / "tokens")
    assert {path: path.stat().st_mtime_ns for path in made.glob("*.array_record")} == stamps
    assert len(first.train) + len(first.valid) == 4
    assert texts(first.train) == texts(again.train)
    assert capsys.readouterr().err.count("left out broken.mp4") == 1


def test_live_clips_are_new_windows_of_the_same_clips(tmp_path, folder, tokenizer):
    config = dataclasses.replace(CONFIG, data=str(folder), tokenizer=tokenizer)
    cached = network_data(config, tmp_path / "tokens")
    live = network_data(dataclasses.replace(config, live=True), tmp_path / "live")
    assert (live.ids.grid, live.ids.fps) == (cached.ids.grid, cached.ids.fps)
    assert len(live.train) + len(live.valid) == 5  # the broken one is not opened yet
    windows = [live.train.draw(0, np.random.default_rng(i))[1] for i in range(20)]
    assert {window.shape for window in windows} == {(5, 16)}
    assert len({window.tobytes() for window in windows}) > 2


def test_one_clip_that_is_too_short_for_both_uses_says_so(tmp_path):
    config = dataclasses.replace(CONFIG, data=tokens(tmp_path / "t", (9,)))
    with pytest.raises(ValueError, match="9 frames, and 10 are wanted, to train on 5 and"):
        network_data(config, tmp_path)
