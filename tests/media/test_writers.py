"""Clips to files and back."""

import dataclasses
import json
import os

import av
import numpy as np
import pytest
import videos
from PIL import Image

from fv_jax.media.clip import Clip
from fv_jax.media.writers import check_output, save_clip, write_gif, write_mp4, write_playable
from fv_jax.metrics.signal_to_noise import psnr_per_frame
from fv_jax.shapes import scenes


def clip(fps=8.0):
    spec = scenes.clip("test", 2)
    rng = np.random.default_rng(0)
    return Clip(
        frames=scenes.render(spec),
        ids=rng.integers(0, 2500, (17, 8, 8), dtype=np.int32),
        key_frame=np.arange(17) % 4 == 0,
        inherited=rng.uniform(size=(17, 8, 8)) < 0.2,
        prompt=spec.caption,
        seed=7,
        fps=fps,
        stats={"videos": 1, "seconds": {"sample": 0.5}},
    )


@pytest.mark.parametrize("fps", [2.0, 8.0, 30.0, 23.976])
def test_mp4_keeps_frames_and_rate(tmp_path, fps):
    save_clip(clip(fps), tmp_path / "a.mp4")
    frames, rate = videos.read(tmp_path / "a.mp4")
    assert rate == pytest.approx(fps, rel=1e-3)
    assert frames.shape == clip().frames.shape
    assert psnr_per_frame(clip().frames, frames).min() > 28  # colour is stored at half resolution


def test_gif_keeps_frames_and_rate(tmp_path):
    save_clip(clip(fps=10.0), tmp_path / "a.gif")
    frames, rate = videos.read(tmp_path / "a.gif")
    assert rate == pytest.approx(10)
    assert frames.shape == clip().frames.shape
    assert psnr_per_frame(clip().frames, frames).min() > 35
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info["loop"] == 0


def test_gif_frames_that_do_not_change_are_all_kept(tmp_path):
    still = clip().frames[:1].repeat(6, axis=0)
    write_gif(still, 10.0, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as image:
        duration = sum(_durations(image))
    assert duration == pytest.approx(600)


def _durations(image):
    for frame in range(image.n_frames):
        image.seek(frame)
        yield image.info["duration"]


def test_npz_keeps_everything_exactly(tmp_path):
    made = clip()
    save_clip(made, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        loaded = dict(file)
    assert set(loaded) == {field.name for field in dataclasses.fields(Clip)}
    for name in ("frames", "ids", "key_frame", "inherited"):
        assert loaded[name].dtype == getattr(made, name).dtype
        np.testing.assert_array_equal(loaded[name], getattr(made, name))
    assert (str(loaded["prompt"]), int(loaded["seed"]), float(loaded["fps"])) == (
        made.prompt, 7, 8.0,
    )  # fmt: skip
    assert json.loads(str(loaded["stats"])) == made.stats


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_scale_enlarges_every_pixel(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    save_clip(clip(), path, scale=3)
    frames, _ = videos.read(path)
    assert frames.shape == (17, 192, 192, 3)
    blocks = frames.reshape(17, 64, 3, 64, 3, 3)[:, :, 1, :, 1]
    assert psnr_per_frame(clip().frames, blocks).min() > 25


def test_png_is_the_montage(tmp_path):
    save_clip(clip(), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width >= 17 * 64
        assert image.height >= 2 * 64


def test_a_suffix_in_capitals_is_fine(tmp_path):
    save_clip(clip(), tmp_path / "a.GIF")
    assert videos.read(tmp_path / "a.GIF")[0].shape[0] == 17


@pytest.mark.parametrize("name", ["a.avi", "a", "mp4", "a.mp4.txt"])
def test_an_unknown_suffix_is_refused_and_nothing_written(tmp_path, name):
    for write in (check_output, lambda path: save_clip(clip(), path)):
        with pytest.raises(ValueError, match=r"expected one of \.mp4, \.gif, \.png, \.npz"):
            write(tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_a_failed_write_leaves_nothing(tmp_path):
    odd = np.zeros((3, 63, 65, 3), np.uint8)  # H.264 wants even sides
    with pytest.raises(av.FFmpegError):
        write_mp4(odd, 8.0, tmp_path / "a.mp4")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("shape", "suffix"), [((32, 48), ".mp4"), ((31, 48), ".gif")])
def test_odd_sides_become_a_gif(shape, suffix, tmp_path):
    path = write_playable(videos.noise(5, shape), 8.0, tmp_path / "00-real")
    assert path.suffix == suffix
    assert videos.read(path)[0].shape == (5, *shape, 3)
