"""Which frames `--first-frames` and `fv interpolate` take, of every kind of video."""

from pathlib import Path

import numpy as np
import pytest
import tiny
import videos
from PIL import Image

from fv_jax.cli.commands import Generate, Interpolate
from fv_jax.cli.generate import _first_frames
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
    return _first_frames(command, generator.model)


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


def test_one_picture_or_a_video_of_one_frame_is_one_key_frame(tmp_path, generator):
    Image.fromarray(FRAMES[0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(first(tmp_path / "a.png", 1, generator), FRAMES[:1])
    write_mp4(FRAMES[:1], 8, tmp_path / "a.mp4")
    assert first(tmp_path / "a.mp4", 1, generator).shape == (1, 64, 64, 3)


@pytest.mark.parametrize("kind", ["gif", "pictures"])
def test_interpolation_of_gifs_and_folders(kind, tmp_path, generator, monkeypatch):
    path, fps = write(kind, tmp_path)
    seen = {}

    def run(self, plan):
        seen.update(plan=plan)
        raise ValueError("enough")

    monkeypatch.setattr(Generator, "load", lambda name: generator)
    monkeypatch.setattr(Generator, "run", run)
    with pytest.raises(ValueError, match="enough"):
        interpolate(Interpolate(path, out=tmp_path / "b.mp4"))
    expected = videos.read(path)[0] if path.is_file() else FRAMES
    np.testing.assert_array_equal(seen["plan"].first_frames[0], expected)
    assert seen["plan"].fps == pytest.approx(fps)


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
