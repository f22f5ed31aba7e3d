"""Writing clips: mp4 through PyAV, GIF and PNG through Pillow, everything in .npz."""

import contextlib
import io
import json
import math
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from PIL import GifImagePlugin, Image

from fv_jax.array_types import Frame, Frames
from fv_jax.config.registry import choices
from fv_jax.files import replacing
from fv_jax.media.clip import Clip
from fv_jax.media.montage import montage, save_png

_BT709 = 1  # ITU-T H.273
_SHORTEST = 2  # hundredths of a second of a GIF's frame
FORMATS = (".mp4", ".gif", ".png", ".npz")


def check_output(path: Path) -> None:
    """Raise ValueError unless the suffix names a format that `save_clip` writes."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(
            f"cannot tell the format of {str(path)!r} from its suffix; "
            f"{choices(path.suffix.lower(), FORMATS)}"
        )


def save_clip(clip: Clip, path: Path, *, scale: int = 1) -> list[str]:
    """Write a clip in the format of `path`'s suffix, whole or not at all.

    Args:
        clip: what to write.
        path: .mp4 and .gif hold the video, .png the montage, .npz all arrays.
        scale: whole-number enlargement of mp4 and gif frames (nearest pixel).

    Returns:
        What the format could not hold as it is, a line each.
    """
    check_output(path)
    suffix = path.suffix.lower()
    frames = clip.frames.repeat(scale, axis=1).repeat(scale, axis=2)
    if suffix == ".png":
        save_png(montage([clip]), path)
    elif suffix == ".npz":
        _write_npz(clip, path)
    elif suffix == ".gif":
        return write_gif(frames, clip.fps, path)
    else:
        return write_mp4(frames, clip.fps, path)
    return []


def write_mp4(frames: Frames, fps: float, path: Path) -> list[str]:
    """H.264 as browsers and QuickTime play it: yuv420p, BT.709, the index at the start.

    Colors are stored at half resolution: a side that is odd gets its last row or column twice.

    Returns:
        What the format could not hold as it is, a line each.
    """
    height, width = frames.shape[1:3]
    with mp4_of_frames(path, fps) as put:
        for pixels in frames:
            put(pixels)
    if height % 2 or width % 2:
        return [f"{width}x{height} px became {width + width % 2}x{height + height % 2}: mp4's"
                " sides are even"]  # fmt: skip
    return []


@contextlib.contextmanager
def mp4_of_frames(path: Path, fps: float) -> Iterator[Callable[[Frame], None]]:
    """A function that takes the next frame of an mp4 as `write_mp4` writes it.

    The file is there when the block has ended, and is not if it failed.
    """
    _check_rate(fps)
    stream = None
    with (
        replacing(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):

        def put(pixels: Frame) -> None:
            nonlocal stream
            height, width = pixels.shape[:2]
            pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            if stream is None:
                stream = _h264(container, fps, pixels.shape[:2])
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            container.mux(stream.encode(frame))

        yield put
        if stream is not None:
            container.mux(stream.encode())


def _h264(container: OutputContainer, fps: float, size: tuple[int, ...]) -> VideoStream:
    stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"
    stream.options = {"crf": "12"}
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = ColorRange.MPEG
    return stream


def write_gif(frames: Frames, fps: float, path: Path) -> list[str]:
    """An endless GIF with one palette of 256 colors for all frames, every frame a frame.

    It counts in 1/100 s, and viewers do not show a frame for less than two of them.

    Returns:
        What the format could not hold as it is, a line each.
    """
    _check_rate(fps)
    strip = Image.fromarray(frames.reshape(-1, *frames.shape[2:]))
    palette = strip.quantize(256, dither=Image.Dither.NONE)
    images = [
        Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames
    ]
    lasts, notes = gif_delays(len(frames), fps)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(b"GIF89a" + struct.pack("<HHBBB", *images[0].size, 0xF7, 0, 0))
        file.write(bytes(palette.getpalette() or []).ljust(768, b"\0"))
        file.write(b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0")  # endless
        before = None
        for image, hundredths in zip(images, lasts):
            box = _changed(before, image)
            file.write(b"!\xf9\x04\x04" + struct.pack("<H", hundredths) + b"\0\0")
            file.writelines(GifImagePlugin.getdata(image.crop(box), offset=box[:2]))
            before = image
        file.write(b";")
    return notes


def gif_delays(count: int, fps: float) -> tuple[list[int], list[str]]:
    """Hundredths of a second of each frame, and what must be said of them.

    The ends of frames are rounded, not their lengths, so that the whole keeps its duration.
    """
    ends = np.round(np.arange(count + 1) * (100 / max(fps, 100 / 65535)))
    lasts = [max(_SHORTEST, int(last)) for last in np.diff(ends)]
    if fps > 100 / _SHORTEST:
        slower = fps * _SHORTEST / 100
        return [_SHORTEST] * count, [
            f"GIF shows at most {100 // _SHORTEST} frames a second: it plays {slower:.3g} times "
            f"slower than {fps:.4g} fps; mp4 keeps the rate"
        ]
    if len(set(lasts)) > 1:
        return lasts, [f"GIF counts in 1/100 s: at {fps:.4g} fps frames last "
                       f"{min(lasts)} or {max(lasts)} of them"]  # fmt: skip
    if abs(100 / fps - lasts[0]) > 1e-3 * lasts[0]:
        return lasts, [f"GIF counts in 1/100 s: {fps:.4g} fps became {100 / lasts[0]:.4g}"]
    return lasts, []


def _changed(before: Image.Image | None, image: Image.Image) -> tuple[int, int, int, int]:
    """The part of an image that is another than before; a pixel, if none is."""
    if before is None:
        return (0, 0, *image.size)
    rows, columns = np.nonzero(np.asarray(before) != np.asarray(image))
    if not len(rows):
        return (0, 0, 1, 1)
    box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    left, top, right, bottom = map(int, box)
    return left, top, right, bottom


def _check_rate(fps: float) -> None:
    if not 0 < fps < math.inf:
        raise ValueError(f"frames per second must be > 0, got {fps:g}")


def _write_npz(clip: Clip, path: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        frames=clip.frames,
        ids=clip.ids,
        key_frame=clip.key_frame,
        inherited=clip.inherited,
        prompt=np.asarray(clip.prompt),
        seed=np.asarray(clip.seed),
        fps=np.asarray(clip.fps),
        stats=np.asarray(json.dumps(clip.stats)),
    )
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
