"""Our frames and times beside those of ffmpeg's own program."""

import re
import subprocess

import numpy as np
import pytest
import videos

from fv_jax.media import open_clip

pytestmark = pytest.mark.slow
SOURCE = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=2"]
DROPPED = ["-vf", "select='lt(n,10)+gte(n,40)'", "-fps_mode", "passthrough"]
# Name of the file, options of ffmpeg, and the largest mean difference of pixels.
CASES = {
    "h264.mp4": (["-c:v", "libx264", "-bf", "3"], 0.1),
    "hevc.mkv": (["-c:v", "libx265", "-x265-params", "log-level=none"], 0.1),
    "vp9.webm": (["-c:v", "libvpx-vp9", "-deadline", "realtime"], 0.1),
    "vp8.webm": (["-c:v", "libvpx"], 0.1),
    "mpeg2.ts": (["-c:v", "mpeg2video", "-bf", "2"], 0.1),
    "mpeg2.mpg": (["-c:v", "mpeg2video", "-bf", "2"], 0.1),
    "mpeg4.avi": (["-c:v", "mpeg4"], 0.1),
    "wmv.wmv": (["-c:v", "wmv2"], 0.1),
    "flv.flv": (["-c:v", "flv"], 0.1),
    "theora.ogv": (["-c:v", "libtheora"], 0.1),
    "mjpeg.mov": (["-c:v", "mjpeg"], 0.1),
    "a.gif": ([], 0.1),
    "vfr.mp4": (["-c:v", "libx264", *DROPPED], 0.1),
    "vfr.mkv": (["-c:v", "libx264", *DROPPED], 0.1),
    "vfr.avi": (["-c:v", "mpeg4", *DROPPED], 0.1),
    "vfr_b.avi": (["-c:v", "mpeg4", "-bf", "2", *DROPPED], 0.1),
    "vfr_h264.avi": (["-c:v", "libx264", *DROPPED], 0.1),
    "late.mp4": (["-c:v", "libx264", "-output_ts_offset", "1.5"], 0.1),
    "full.mp4": (["-vf", "scale=out_range=full", "-c:v", "libx264"], 0.1),
    "bt709.mp4": (["-vf", "scale=out_color_matrix=bt709,setparams=colorspace=bt709",
                   "-c:v", "libx264"], 0.1),
    "odd.webm": (["-vf", "crop=159:119:0:0", "-c:v", "libvpx-vp9"], 0.1),
    "cropped.mp4": (["-vf", "crop=150:110", "-c:v", "libx264"], 0.1),
    "interlaced.mp4": (["-vf", "interlace", "-c:v", "libx264", "-flags", "+ildct+ilme"], 3.0),
}  # fmt: skip


@pytest.fixture(scope="session")
def ffmpeg():
    program = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()

    def run(*args, text=True):
        done = subprocess.run([program, "-y", "-hide_banner", *map(str, args)], capture_output=True)
        return done.stderr.decode() if text else done.stdout

    return run


def oracle(ffmpeg, path, size, *filters):
    """Frames and times as the program has them; turned upright by itself."""
    height, width = size
    chain = ",".join([*filters, "showinfo"])
    args = ["-i", path, "-vf", chain, "-fps_mode", "passthrough"]
    said = ffmpeg(*args, "-f", "null", "-")
    times = np.asarray([float(t) for t in re.findall(r"pts_time:\s*([-0-9.]+)", said)])
    raw = ffmpeg("-loglevel", "error", "-i", path, *(["-vf", ",".join(filters)] if filters else []),
                 "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-",
                 text=False)  # fmt: skip
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3), times - times[0]


@pytest.mark.parametrize("name", CASES)
def test_of_every_kind(name, ffmpeg, tmp_path):
    options, slack = CASES[name]
    path = tmp_path / name
    said = ffmpeg(*SOURCE, *options, path)
    if not path.exists() or not path.stat().st_size:
        pytest.skip(reason=f"this ffmpeg cannot write {name}: {said[-200:]}")
    reader = open_clip(path)
    filters = ["yadif=deint=interlaced"] if "interlaced" in name else []
    frames, times = oracle(ffmpeg, path, reader.size, *filters)
    ours = reader.frames(range(len(reader.times)))
    assert len(ours) == len(frames)
    np.testing.assert_allclose(reader.times, times, atol=2e-3)
    assert np.abs(ours.astype(int) - frames).mean() <= slack
    some = [len(ours) - 1, 3, 7]
    np.testing.assert_array_equal(reader.frames(some), ours[some])


@pytest.mark.parametrize("path", videos.real_clips(), ids=lambda path: path.name)
def test_of_real_clips(path, ffmpeg):
    reader = open_clip(path)
    oblong = any("shown square" in note for note in reader.notes)
    filters = ["scale=round(iw*sar):ih"] if oblong else []
    frames, times = oracle(ffmpeg, path, reader.size, *filters)
    assert len(reader.times) == len(frames)
    np.testing.assert_allclose(reader.times, times, atol=2e-3)
    last = len(frames) - 1
    assert np.abs(reader.frames([0, last]).astype(int) - frames[[0, last]]).mean() < (
        3 if oblong else 0.1
    )


@pytest.mark.parametrize("end", ["mkv", "mp4", "ts"])
def test_of_clips_cut_between_key_frames(end, ffmpeg, tmp_path):
    whole, cut = tmp_path / "a.mp4", tmp_path / f"cut.{end}"
    keys = "log-level=none:keyint=25:min-keyint=25:open-gop=1:bframes=4"
    ffmpeg(*SOURCE, "-c:v", "libx265", "-x265-params", keys, whole)
    ffmpeg("-ss", "0.7", "-i", whole, "-t", "1", "-c", "copy", cut)
    reader = open_clip(cut)
    frames, times = oracle(ffmpeg, cut, reader.size)
    assert len(reader.times) == len(frames)
    np.testing.assert_allclose(reader.times, times, atol=2e-3)
    assert np.abs(reader.frames(range(len(frames))).astype(int) - frames).mean() < 0.1


def test_of_pixels_that_are_not_square(ffmpeg, tmp_path):
    path = tmp_path / "a.mp4"
    ffmpeg(*SOURCE, "-vf", "setsar=64/45", "-c:v", "libx264", path)
    reader = open_clip(path)
    frames, _ = oracle(ffmpeg, path, reader.size, "scale=round(iw*sar):ih")
    assert reader.size == (120, 228)
    # Colors, which are stored at half resolution, are scaled by another filter.
    assert np.abs(reader.frames([5]).astype(int) - frames[5]).mean() < 6
