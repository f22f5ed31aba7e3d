"""A model's videos of unseen clips: made once, the same whatever the order, batch or run."""

import dataclasses
import hashlib

import numpy as np
import pytest
import tiny
import videos

from fv_jax.config.model import Options, TokenSettings
from fv_jax.config.training import NetworkExperiment
from fv_jax.data.sources.base import open_source
from fv_jax.data.split import held_out
from fv_jax.data.tokenize import tokenize
from fv_jax.evaluation import samples
from fv_jax.evaluation.protocols import Protocol
from fv_jax.evaluation.samples import Samples, choose, unseen_entries
from fv_jax.generation.generator import Generator
from fv_jax.media.clip import Clip
from fv_jax.media.readers import ClipError

TEXTS = [*tiny.PROMPTS, tiny.PROMPTS[0]]
RULES = Protocol(given_frames=1, frames=9, size=64)


def few(count):
    return dataclasses.replace(RULES, real_count=count)


class Painter(Generator):
    """Noise by the seed, after the first frames: as a model does, and at once."""

    def generate(self, prompts, *, seed, options, first_frames=None, given_frames=None):
        first_frames = first_frames if given_frames is None else given_frames
        clips = []
        for row, prompt in enumerate(prompts):
            frames = np.random.default_rng([seed[row], len(prompt)]).integers(
                0, 256, (9, 64, 64, 3)
            )
            if first_frames is not None:
                begin = first_frames[row, :1] if given_frames is None else given_frames[row]
                frames[: len(begin)] = begin
            ids = np.zeros((9, 4, 4), np.int32)
            key = np.zeros(9, bool)
            clips.append(
                Clip(frames.astype(np.uint8), ids, key, ids > 0, prompt, seed[row], 8.0, {})
            )
        return clips


@pytest.fixture
def generator():
    return Painter(tiny.model())


def source(clips=None):
    return tiny.ListSource(clips or [tiny.video(10, seed) for seed in range(3)], TEXTS)


def entries(of):
    return [of[i] for i in range(len(of))]


def made_by(generator, real, home, rules=RULES, seed=0, batch=2, options=Options()):
    found = Samples(generator, real, rules, options=options, seed=seed, home=home, weights="x")
    return found, found.generate(batch)


def test_choosing_depends_on_names_alone_and_says_what_is_left_out(capsys):
    clips = [tiny.video(10), tiny.video(4), ClipError("broken")]
    real, left_out = choose(entries(source(clips)), RULES, 8.0)
    assert [unseen.id for unseen in real] == ["clip/0"]
    assert sorted(left_out) == ["clip/1: too short: 4 frames at 8 fps of the 9 wanted",
                                "clip/2: broken"]  # fmt: skip
    assert "clip/2: broken" in capsys.readouterr().err
    two, _ = choose(entries(source()), few(2), 8.0)
    again, _ = choose(entries(source())[::-1], few(2), 8.0)
    assert [u.id for u in two] == [u.id for u in again]
    rank = {f"clip/{i}": hashlib.sha256(f"clip/{i}".encode()).digest() for i in range(3)}
    assert [u.id for u in two] == sorted(rank, key=rank.__getitem__)[:2]
    with pytest.raises(ValueError, match="none of 1 clips has 9 frames at 8 fps"):
        choose(entries(source([tiny.video(4)])), RULES, 8.0)


def test_clips_are_those_that_the_training_held_out(tmp_path):
    home = tmp_path / "clips"
    home.mkdir()
    for i in range(6):
        videos.write(home / f"{i}.mp4", videos.noise(4), "mp4")
    config = NetworkExperiment("x", data=str(home), valid_share=0.4)
    name, unseen = unseen_entries(config)
    assert name == str(home)
    assert {e.id for e in unseen} == held_out([f"{i}.mp4" for i in range(6)], 0.4)
    settings = TokenSettings(fps=25.0, size=48)
    tokens = tokenize(open_source(str(home)), tiny.MeanTokenizer(), tmp_path / "tokens", settings)
    name, same = unseen_entries(dataclasses.replace(config, data=str(tokens.folder)))
    assert (name, [e.id for e in same]) == (str(home), [e.id for e in unseen])
    named = dataclasses.replace(config, valid=str(tokens.folder))
    assert len(unseen_entries(named)[1]) == 6
    assert unseen_entries(named, "shapes,split=test,count=3")[0] == "shapes,split=test,count=3"


def test_a_stopped_run_goes_on_and_batches_change_nothing(generator, tmp_path):
    real, _ = choose(entries(source()), RULES, 8.0)
    first, made = made_by(generator, real, tmp_path / "a", batch=2)
    assert made == 3
    before = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    next(first.folder.iterdir()).unlink()
    again, made = made_by(generator, real, tmp_path / "a", batch=1)
    assert made == 1
    frames = lambda of: [group[0].read() for group in of.runs()[0]]
    assert {path.name for path in again.folder.iterdir()} == set(before)
    one_by_one, _ = made_by(generator, real[::-1], tmp_path / "b", batch=1)
    for a, b in zip(frames(first), frames(one_by_one)[::-1]):
        np.testing.assert_array_equal(a, b)


def test_every_fake_begins_with_its_own_clips_first_frame(generator, tmp_path):
    real, _ = choose(entries(source()), RULES, 8.0)
    made, _ = made_by(generator, real, tmp_path, batch=2)
    for unseen, group in zip(real, made.runs()[0]):
        np.testing.assert_array_equal(group[0].read()[0], unseen.clip.read()[0])


def test_other_given_frames_are_other_videos_under_the_same_name(generator, tmp_path):
    real, other = (
        choose(entries(source([tiny.video(10, seed + i) for i in range(3)])), RULES, 8.0)[0]
        for seed in (0, 5)
    )
    assert [(u.id, u.text) for u in real] == [(u.id, u.text) for u in other]
    assert made_by(generator, real, tmp_path)[1] == 3
    assert made_by(generator, other, tmp_path)[1] == 3
    assert made_by(generator, real, tmp_path)[1] == 0
    # Where nothing is given, text and id alone decide.
    free = dataclasses.replace(RULES, given_frames=0)
    assert [made_by(generator, clips, tmp_path, free)[1] for clips in (real, other)] == [3, 0]


def test_no_more_is_decoded_than_is_compared(generator, tmp_path):
    asked = []

    class Counting(tiny.ListSource):
        def _open(self, index):
            reader = super()._open(index)
            frames = reader.frames
            reader.frames = lambda numbers: asked.append(len(numbers)) or frames(numbers)
            return reader

    of = Counting([tiny.video(30)], TEXTS[:1])
    (unseen,), _ = choose(entries(of), RULES, 8.0)
    made_by(generator, [unseen], tmp_path)
    assert asked == [1, 1]
    assert len(unseen.clip.read()) == 9
    (spread,), _ = choose(entries(of), dataclasses.replace(RULES, windows=2), 8.0)
    assert len(spread.clip.read()) == 30


def test_repeats_trials_seeds_and_options_are_other_videos(generator, tmp_path):
    real, _ = choose(entries(source()), few(2), 8.0)
    rules = Protocol(given_frames=1, repeats=2, fake_count=3)
    found, made = made_by(generator, real, tmp_path, rules)
    assert made == 6
    assert [[len(group) for group in run] for run in found.runs()] == [[2, 1], [2, 1]]
    seeds = [m.seed for run in found.made for m in run]
    assert len(set(seeds)) == 6
    assert made_by(generator, real, tmp_path, rules, seed=1)[1] == 6
    assert made_by(generator, real, tmp_path, rules, options=Options(inherit=0.5))[1] == 6
    # Windows change no video, so they make none anew.
    assert made_by(generator, real, tmp_path, rules, options=Options(window=1))[1] == 0


def test_given_frames_are_as_many_key_frames_as_lie_in_them(generator, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "save_clip", lambda clip, path: None)
    real, _ = choose(entries(source()), few(1), 8.0)
    for given, known in ((0, 0), (1, 1), (4, 1), (5, 2)):
        found = Samples(
            generator, real, Protocol(given_frames=given), options=Options(), seed=0,
            home=tmp_path, weights="x",
        )  # fmt: skip
        assert found.used == known
        assert bool(found.notes) == (known < given)
    with pytest.raises(ValueError, match=r"given_frames=13 hold 4 key frames.* 3"):
        made_by(generator, real, tmp_path, Protocol(given_frames=13))


def test_all_given_frames_are_used_by_a_model_that_was_trained_so(tmp_path):
    generator = Painter(tiny.model_of_five())
    five = Protocol(given_frames=5, frames=9, size=64)
    clips = [tiny.video(10, seed) for seed in range(3)]
    real, _ = choose(entries(source(clips)), five, 8.0)
    found, count = made_by(generator, real, tmp_path, five)
    assert (count, found.used, found.notes) == (3, 5, [])
    for unseen, group in zip(real, found.runs()[0]):
        np.testing.assert_array_equal(group[0].read()[:5], unseen.clip.read()[:5])
    # Each of the five is part of what a fake is known by, and no other frame is.
    for frame, changed in ((1, True), (3, True), (5, False)):
        clips[0] = clips[0].copy()
        clips[0][frame] = 255 - clips[0][frame]
        other, _ = choose(entries(source(clips)), five, 8.0)
        assert made_by(generator, other, tmp_path, five)[1] == changed
    # With one frame inserted instead of three, a frame of the clip is half a key frame's distance.
    slower = Samples(
        generator, real, Protocol(given_frames=5), options=Options(insert=1), seed=0, home=tmp_path,
        weights="x",
    )  # fmt: skip
    assert (slower.used, len(slower.notes)) == (3, 1)


def test_a_damaged_file_is_named(generator, tmp_path):
    real, _ = choose(entries(source()), few(1), 8.0)
    made, _ = made_by(generator, real, tmp_path)
    path = next(made.folder.iterdir())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="delete it, and it is made again"):
        made.runs()[0][0][0].read()
