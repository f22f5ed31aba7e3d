"""Which frames `--first-frames` and `fv interpolate` take, of every kind of video."""

import os
from pathlib import Path

import numpy as np
import pytest
import tiny
import videos
from PIL import Image

from fv_jax.cli.commands import Generate, Interpolate
from fv_jax.cli.generate import _begin, _prompts_and_outputs, generate
from fv_jax.cli.interpolate import interpolate
from fv_jax.generation.generator import Generator
from fv_jax.media.writers import write_gif, write_mp4

FRAMES = tiny.video(9)  # a second at 8 fps, 64x64 px as the model wants them


def write(kind: str, folder: Path) -> tuple[Path, int]:
    """A video of that kind and its frames per second."""
    path = folder / f"a.{kind}"
    if kind == "mp4":
        write_mp4(FRAMES, 8, path)
    elif kind == "gif":
        write_gif(FRAMES, 10, path)
    else:
        path = folder / "pictures"
        path.mkdir()
        for i, frame in enumerate(FRAMES):
            Image.fromarray(frame).save(path / f"{i + 95}.png")  # 99 comes before 100
        return path, 25
    return path, 8 if kind == "mp4" else 10


def first(path: Path, count: int, generator) -> np.ndarray:
    command = Generate(first_frames=path, first_frame_count=count)
    return _begin(command, generator.model)["first_frames"]


@pytest.mark.parametrize("kind", ["mp4", "gif", "pictures"])
def test_first_frames_are_taken_at_the_rate_of_key_frames(kind, tmp_path, generator):
    path, fps = write(kind, tmp_path)
    every = videos.read(path)[0] if path.is_file() else FRAMES
    rate = generator.model.config.key_frame_fps
    expected = [int(k * fps / rate + 1e-6) for k in range(3) if k * fps / rate <= 8]
    frames = first(path, len(expected), generator)
    np.testing.assert_array_equal(frames, every[expected])
    if len(expected) < generator.model.config.key_frames:
        with pytest.raises(ValueError, match=f"{path.name} has 9 frames in .* s, too few for"):
            first(path, len(expected) + 1, generator)


def test_given_frames_are_taken_at_the_model_s_own_rate(tmp_path, generator):
    path = tmp_path / "a.mp4"
    write_mp4(tiny.video(18), 16, path)
    begin = lambda **more: _begin(Generate(first_frames=path, **more), generator.model)
    taken = begin(given_frames=5)
    assert list(taken) == ["given_frames"]
    np.testing.assert_array_equal(taken["given_frames"], videos.read(path)[0][:10:2])
    with pytest.raises(ValueError, match=r"--given-frames must be in 1\.\.9, got 10"):
        begin(given_frames=10)
    with pytest.raises(ValueError, match="--given-frames needs --first-frames, and no --first"):
        begin(given_frames=5, first_frame_count=2)
    with pytest.raises(ValueError, match="--given-frames needs --first-frames"):
        _begin(Generate(given_frames=5), generator.model)


def test_one_picture_or_a_video_of_one_frame_is_one_key_frame(tmp_path, generator):
    Image.fromarray(FRAMES[0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(first(tmp_path / "a.png", 1, generator), FRAMES[:1])
    write_mp4(FRAMES[:1], 8, tmp_path / "a.mp4")
    assert first(tmp_path / "a.mp4", 1, generator).shape == (1, 64, 64, 3)


def planned(path, folder, generator, monkeypatch):
    """What `fv interpolate` would have the generator make of a video."""
    plans = []

    def run(self, plan):
        plans.append(plan)
        raise ValueError("enough")

    monkeypatch.setattr(Generator, "load", lambda name: generator)
    monkeypatch.setattr(Generator, "run", run)
    with pytest.raises(ValueError, match="enough"):
        interpolate(Interpolate(path, out=folder / "b.mp4"))
    (plan,) = plans
    return plan


@pytest.mark.parametrize("kind", ["gif", "pictures"])
def test_interpolation_of_gifs_and_folders(kind, tmp_path, generator, monkeypatch):
    path, fps = write(kind, tmp_path)
    plan = planned(path, tmp_path, generator, monkeypatch)
    expected = videos.read(path)[0] if path.is_file() else FRAMES
    np.testing.assert_array_equal(plan.first_frames[0], expected)
    assert plan.fps == pytest.approx(fps)


@pytest.mark.parametrize("name", ["nowhere.mp4", "words.mp4", "empty.mp4", "half.mp4", "folder"])
def test_a_bad_video_is_named(name, tmp_path, generator):
    write_mp4(FRAMES, 8, tmp_path / "half.mp4")
    content = (tmp_path / "half.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(content[: len(content) // 2])
    (tmp_path / "words.mp4").write_text("these are words, no video\n" * 50)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder").mkdir()
    path = tmp_path / name
    words = "no video .*nowhere" if name == "nowhere.mp4" else f"{name} cannot be read as a video: "
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        first(path, 1, generator)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        interpolate(Interpolate(path, out=tmp_path / "b.mp4"))
    assert not (tmp_path / "b.mp4").exists()


def test_a_video_of_uneven_frames_lasts_as_long(tmp_path, generator, monkeypatch, capsys):
    """Ten frames at 25 fps, a pause of 1.2 s, ten more: taken at 25 fps throughout."""
    stamps = [40 * i + 1200 * (i >= 10) for i in range(20)]
    frames = videos.noise(20, (64, 64))
    path = videos.write(tmp_path / "a.mkv", frames, "mkv", stamps=stamps)
    plan = planned(path, tmp_path, generator, monkeypatch)
    (taken,) = plan.first_frames
    shown = videos.read(path)[0]
    assert plan.fps == pytest.approx(25)
    np.testing.assert_array_equal(taken, shown[[*range(10), *[9] * 30, *range(10, 20)]])
    assert (
        "20 frames at uneven times became 50 at 25 fps: it lasts as long" in capsys.readouterr().err
    )


@pytest.mark.parametrize("way", ["itself", "link", "hard link", "through a folder"])
def test_an_output_that_is_the_input_is_refused_before_anything_is_read(way, tmp_path, monkeypatch):
    path = tmp_path / "mine.mp4"
    path.write_bytes(b"no video: nobody has looked")
    out = tmp_path / ("mine.mp4" if way == "itself" else "out.mp4")
    if way == "link":
        out.symlink_to(path)
    elif way == "hard link":
        os.link(path, out)
    elif way == "through a folder":
        (tmp_path / "there").symlink_to(tmp_path)
        out = tmp_path / "there" / "mine.mp4"
    monkeypatch.setattr(Generator, "load", lambda name: pytest.fail("loaded"))
    with pytest.raises(ValueError, match=r"--out '.*\.mp4' is what is read .*choose another --out"):
        interpolate(Interpolate(path, out=out))
    with pytest.raises(ValueError, match="is what is read"):
        generate(Generate(("a red circle",), first_frames=path, out=out))
    assert path.read_bytes() == b"no video: nobody has looked"


def test_a_video_in_the_place_of_the_prompts_is_refused(tmp_path):
    (tmp_path / "prompts.txt").write_text("a small red circle")
    os.link(tmp_path / "prompts.txt", tmp_path / "000.npz")
    with pytest.raises(ValueError, match="is what is read"):
        generate(Generate(prompts=tmp_path / "prompts.txt", out=tmp_path))


def test_a_picture_of_the_input_s_folder_is_no_output(tmp_path):
    for i, frame in enumerate(FRAMES[:3]):
        Image.fromarray(frame).save(tmp_path / f"{i}.png")
    with pytest.raises(ValueError, match="is what is read"):
        interpolate(Interpolate(tmp_path, out=tmp_path / "1.png"))


def test_no_folder_is_made_for_an_input_that_is_not_good(tmp_path):
    (tmp_path / "words.mp4").write_text("no video")
    with pytest.raises(ValueError, match="cannot be read as a video"):
        interpolate(Interpolate(tmp_path / "words.mp4", out=tmp_path / "new" / "a.mp4"))
    assert [path.name for path in tmp_path.iterdir()] == ["words.mp4"]
    with pytest.raises(NotADirectoryError, match="is no folder"):
        interpolate(Interpolate(tmp_path / "words.mp4", out=tmp_path / "words.mp4" / "a.mp4"))


def test_a_file_of_prompts_from_windows(tmp_path):
    lines = "a small red circle\r\n\r\n  \r\na large blue square\r\n"
    for name, data in (("a", lines.encode("utf-8-sig")), ("b", lines.replace("\r", "").encode())):
        (tmp_path / name).write_bytes(data)
        prompts, outputs = _prompts_and_outputs(Generate(prompts=tmp_path / name, out=tmp_path))
        assert prompts == ["a small red circle", "a large blue square"]
        assert [path.name for path in outputs] == ["000.npz", "001.npz"]
    (tmp_path / "c").write_bytes(lines.encode("utf-16"))
    with pytest.raises(ValueError, match="c is UTF-16 text; save it as UTF-8"):
        _prompts_and_outputs(Generate(prompts=tmp_path / "c", out=tmp_path))


@pytest.mark.parametrize("content", ["", "\n \r\n\n"])
def test_a_file_without_a_prompt_is_named(content, tmp_path):
    path = tmp_path / "blank.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"blank\.txt holds no prompt"):
        _prompts_and_outputs(Generate(prompts=path, out=tmp_path / "new"))
    assert not (tmp_path / "new").exists()
