"""Writing clips: mp4 through PyAV, GIF and PNG through Pillow, everything in .npz."""

import io
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from fv_jax.array_types import Frames
from fv_jax.files import replacing
from fv_jax.media.clip import Clip
from fv_jax.media.montage import montage, save_png

FORMATS = (".mp4", ".gif", ".png", ".npz")


def check_output(path: Path) -> None:
    """Raise ValueError unless the suffix names a format that `save_clip` writes."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(
            f"cannot tell the format of {str(path)!r} from its suffix; "
            f"expected one of {', '.join(FORMATS)}"
        )


def save_clip(clip: Clip, path: Path, *, scale: int = 1) -> None:
    """Write a clip in the format of `path`'s suffix, whole or not at all.

    Args:
        clip: what to write.
        path: .mp4 and .gif hold the video, .png the montage, .npz all arrays.
        scale: whole-number enlargement of mp4 and gif frames (nearest pixel).
    """
    check_output(path)
    suffix = path.suffix.lower()
    frames = clip.frames.repeat(scale, axis=1).repeat(scale, axis=2)
    if suffix == ".png":
        save_png(montage([clip]), path)
    elif suffix == ".npz":
        _write_npz(clip, path)
    elif suffix == ".gif":
        write_gif(frames, clip.fps, path)
    else:
        write_mp4(frames, clip.fps, path)


def write_mp4(frames: Frames, fps: float, path: Path) -> None:
    """H.264. Sides must be even (the format stores color at half resolution)."""
    height, width = frames.shape[1:3]
    with replacing(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "12"}
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def write_gif(frames: Frames, fps: float, path: Path) -> None:
    """An endless GIF with one palette of 256 colors for all frames."""
    strip = Image.fromarray(frames.reshape(-1, *frames.shape[2:]))
    palette = strip.quantize(256, dither=Image.Dither.NONE)
    images = [
        Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames
    ]
    with replacing(path) as temporary:
        images[0].save(
            temporary, format="GIF", save_all=True, append_images=images[1:],
            duration=round(1000 / fps), loop=0,
        )  # fmt: skip


def write_playable(frames: Frames, fps: float, stem: Path) -> Path:
    """An .mp4, or where a side is odd, which H.264 cannot have, a .gif."""
    if frames.shape[1] % 2 or frames.shape[2] % 2:
        path = stem.with_suffix(".gif")
        write_gif(frames, fps, path)
    else:
        path = stem.with_suffix(".mp4")
        write_mp4(frames, fps, path)
    return path


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
