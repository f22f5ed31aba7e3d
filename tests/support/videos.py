"""Small videos of the kinds that users bring, where the real ones lie, and PyAV's own reading."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from places import SHARED

from fv_jax.media.readers import fps_of
from fv_jax.media.video_file import VideoFile

_OPEN_GOP = "open-gop=1:keyint=8:min-keyint=8:scenecut=0"
_REFRESH = "intra-refresh=1:keyint=8:bframes=0"  # no key frames, columns of key blocks
_X265 = "log-level=none:keyint=9"
_VP9 = {"deadline": "realtime", "cpu-used": "8", "g": "8"}

# Container, codec, pixels, options of the codec and of the container.
KINDS = {
    "mp4": ("mp4", "libx264", "yuv420p", {"bf": "2"}, {}),
    "fast.mp4": ("mp4", "libx264", "yuv420p", {"bf": "2"}, {"movflags": "faststart"}),
    "open_gop.mp4": ("mp4", "libx264", "yuv420p", {"bf": "3", "x264-params": _OPEN_GOP}, {}),
    "refresh.mp4": ("mp4", "libx264", "yuv420p", {"x264-params": _REFRESH}, {}),
    "hevc.mp4": ("mp4", "libx265", "yuv420p", {"x265-params": _X265}, {}),
    "part2.mp4": ("mp4", "mpeg4", "yuv420p", {"bf": "2", "g": "6"}, {}),
    "mkv": ("matroska", "libx264", "yuv420p", {"bf": "2", "g": "8"}, {}),
    "avi": ("avi", "mpeg4", "yuv420p", {"bf": "2", "g": "8"}, {}),
    "h264.avi": ("avi", "libx264", "yuv420p", {"bf": "2", "g": "8"}, {}),
    "webm": ("webm", "libvpx-vp9", "yuv420p", _VP9, {}),
    "mpg": ("mpeg", "mpeg2video", "yuv420p", {"bf": "2"}, {}),
    "flv": ("flv", "flv", "yuv420p", {}, {}),
    "gif": ("gif", "gif", "rgb8", {}, {}),
}


def write(
    path: Path, frames: np.ndarray, kind: str, *, stamps: Sequence[int] | None = None, turn: int = 0
) -> Path:
    """Write uint8 [M, Y, X, 3] at 25 fps, or at time stamps of 1/1000 s, to be shown turned."""
    form, codec, pixels, options, more = KINDS[kind]
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    with av.open(str(path), "w", format=form, options=more) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if turn:
            stream.set_display_rotation(turn)
        for number, pixel in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixel, format="rgb24").reformat(format=pixels)
            if stamps is not None:
                frame.pts, frame.time_base = stamps[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def rewritten(path: Path, target: Path, change: str) -> Path:
    """The packets of a video in a new file, through one of ffmpeg's bitstream filters."""
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        (stream,) = source.streams.video
        copy = container.add_stream_from_template(stream)
        bits = BitStreamFilterContext(change, stream, copy)
        for packet in source.demux(stream):
            for changed in bits.filter(packet if packet.size else None):
                changed.stream = copy
                container.mux(changed)
    return target


def noise(count: int = 24, shape: tuple[int, int] = (48, 64), seed: int = 0) -> np.ndarray:
    """Frames of which no two are alike: blocks of colour that drift and flicker."""
    rng = np.random.default_rng(seed)
    height, width = shape
    blocks = rng.integers(0, 256, (count // 4 + 2, height // 8 + 2, width // 8 + 2, 3))
    large = blocks.repeat(8, axis=1).repeat(8, axis=2)
    frames = [large[i // 4, i % 8 :, i % 7 :][:height, :width] for i in range(count)]
    return np.stack(frames).astype(np.uint8)


def sequential(path: Path) -> tuple[np.ndarray, list[float]]:
    """All frames as PyAV decodes them from the start, and their time stamps, s."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        times = [float(f.pts * f.time_base) if f.pts is not None else np.nan for f in frames]
        return np.stack([f.to_ndarray(format="rgb24") for f in frames]), times


def read(path: Path) -> tuple[np.ndarray, float]:
    """All frames and the frame rate."""
    reader = VideoFile(path)
    return reader.frames(range(len(reader.times))), fps_of(reader)


def real_clips() -> list[Path]:
    """The recorded clips, where this checkout has them."""
    return sorted(p for p in (SHARED / "clips").glob("*") if p.suffix in (".mp4", ".avi", ".gif"))


def small_clips(count: int = 12, size: int = 64) -> list[np.ndarray]:
    """Frames of every real clip scaled down, or made-up ones where there are none."""
    small = []
    for path in real_clips():
        with av.open(str(path)) as container:
            frames = (f for i, f in enumerate(container.decode(video=0)) if i % 2 == 0)
            scaled = (
                f.reformat(size, size, "rgb24").to_ndarray() for _, f in zip(range(count), frames)
            )
            small.append(np.stack(list(scaled)))
    return small or [noise(count, (size, size), seed) for seed in range(5)]
