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
from fv_jax.media.video_file import VideoFile
from fv_jax.media.writers import check_output, save_clip, write_gif, write_mp4
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
        with pytest.raises(ValueError, match=r"there are: \.mp4, \.gif, \.png, \.npz"):
            write(tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_a_failed_write_leaves_nothing(tmp_path):
    for write in (write_mp4, write_gif):
        with pytest.raises(ValueError, match="frames per second must be > 0, got nan"):
            write(videos.noise(3), float("nan"), tmp_path / "a.mp4")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("shape", [(31, 48), (32, 47), (1, 1)])
def test_odd_sides_of_an_mp4_get_their_last_pixels_twice(shape, tmp_path):
    frames = videos.noise(5, shape)
    (note,) = write_mp4(frames, 8.0, tmp_path / "a.mp4")
    got, _ = videos.read(tmp_path / "a.mp4")
    height, width = (side + side % 2 for side in shape)
    assert got.shape == (5, height, width, 3)
    assert f"{shape[1]}x{shape[0]} px became {width}x{height}" in note
    assert write_gif(frames, 10.0, tmp_path / "a.gif") == []
    assert videos.read(tmp_path / "a.gif")[0].shape == (5, *shape, 3)


RATES = [1, 2, 8, 12.5, 15, 23.976, 24, 25, 29.97, 30, 50, 59.94, 60, 100, 119.88, 144, 240]


@pytest.mark.parametrize("still", [False, True], ids=["moving", "still"])
@pytest.mark.parametrize("fps", RATES)
def test_as_many_frames_come_out_as_went_in(fps, still, tmp_path):
    frames = videos.noise(13, (16, 16))
    if still:
        frames = frames[:1].repeat(13, axis=0)
    assert write_mp4(frames, fps, tmp_path / "a.mp4") == []
    reader = VideoFile(tmp_path / "a.mp4")
    np.testing.assert_allclose(reader.times, np.arange(13) / fps, atol=2e-4)
    notes = write_gif(frames, fps, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 13
        lasts = [*_durations(image)]
    assert min(lasts) >= 20  # ms
    gif = VideoFile(tmp_path / "a.gif")
    assert len(gif.times) == 13
    if fps <= 50:
        np.testing.assert_allclose(gif.times, np.arange(13) / fps, atol=0.0051)
    assert bool(notes) == (fps not in (1, 2, 12.5, 25, 50))
    if fps > 50:
        assert f"plays {fps / 50:.3g} times slower" in notes[0]


def test_a_gif_s_pixels_are_those_of_its_palette(tmp_path):
    """Only what changes is stored, and nothing of what was there before shines through."""
    rng = np.random.default_rng(0)
    frames = np.zeros((9, 20, 30, 3), np.uint8)
    for frame in frames[1:]:
        top, left = rng.integers(0, 10, 2)
        frame[top : top + 8, left : left + 12] = rng.choice([0, 90, 255], 3)
    write_gif(frames, 20.0, tmp_path / "a.gif")
    np.testing.assert_array_equal(videos.read(tmp_path / "a.gif")[0], frames)


def test_an_mp4_says_what_players_need(tmp_path):
    write_mp4(videos.noise(4), 25.0, tmp_path / "a.mp4")
    data = (tmp_path / "a.mp4").read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0))
        assert frame.format.name == "yuv420p"
        assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (
            1, 1, 1, 1,
        )  # fmt: skip


@pytest.mark.parametrize("color", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40)])
def test_colors_come_back(color, tmp_path):
    write_mp4(np.full((3, 32, 32, 3), color, np.uint8), 25.0, tmp_path / "a.mp4")
    got = videos.read(tmp_path / "a.mp4")[0].reshape(-1, 3).astype(int)
    assert np.abs(got - color).max() <= 4
