"""Reading the frames of one clip at random: video files, folders of pictures, arrays.

    reader.times            when each frame appears, seconds from the first
    reader.frames([3, 8])   their pixels, exactly those that decoding from the start would give

A file is indexed by its packets; only its first frame is decoded then. Where the packets' time
stamps can be trusted a reader jumps to the key frame before what is wanted; where they cannot
(AVI with B-frames, say) it decodes from the start and counts.
"""

import contextlib
import functools
import io
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import av
import numpy as np
from av import logging as av_logging
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from fv_jax.media.cut_short import missing_bytes

VIDEO_SUFFIXES = (
    ".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv",
    ".3gp", ".3g2", ".f4v", ".ts", ".mts", ".m2ts", ".m2v", ".vob", ".asf", ".gif",
)  # fmt: skip
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")

# Codecs whose packets carry the time stamp of the frame that comes of them.
_STAMPED = ("h264", "hevc", "vp8", "vp9", "av1", "gif", "mjpeg", "prores")
# Demuxers of video. Not those that open other files, or the network, such as playlists.
_FORMATS = "mov,matroska,webm,avi,gif,mpeg,mpegvideo,mpegts,asf,flv,ogg,live_flv"
_MOST_PIXELS = 8192 * 8192  # of a frame; a damaged header may claim any size
_LONGEST = 3600  # seconds on the screen, likewise
_PATIENCE = 60.0  # seconds for one packet: on a slow network yes, in circles no

_lock, _listening = threading.Lock(), 0
logging.getLogger("libav").addHandler(logging.NullHandler())


class ClipError(ValueError):
    """A clip that cannot be used; the message says why, without naming the clip."""


@runtime_checkable
class Reader(Protocol):
    """Random access to the frames of one clip."""

    @property
    def times(self) -> Float[np.ndarray, " M"]:
        """When each frame appears: seconds, rising, the first 0."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(Y, X) px."""
        ...

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n Y X 3"]:
        """Pixels of the chosen frames, in the order asked for; an index may come twice.

        Raises:
            ClipError: a frame cannot be decoded.
        """
        ...


class VideoFile:
    """A video, upright, anything that PyAV reads. Opened anew for each call.

    What counts as damage is what ffmpeg can know: a file shorter than it says, packets or frames
    marked as corrupt, frames announced that do not come. Video has no checksums, so a changed
    bit may decode into wrong pixels that nothing tells from right ones: most such bits are seen
    in H.264, about half in MPEG-4, few in GIF and HEVC, hardly any in VP9 (`pytest -m slow -s
    tests/data/test_fuzz.py` counts). Files cut short are all seen where the container says its
    length (`cut_short.py`); MPEG, FLV, WMV and Ogg do not.

    Args:
        video: a file, or what one holds; its content decides what it is, not its suffix.
        least: frames that a clip must have.

    Raises:
        ClipError: no file, empty, no video in it, damaged, or too few frames.
    """

    def __init__(self, video: Path | bytes, *, least: int = 2):
        self._video = video
        try:
            if isinstance(video, Path) and video.exists() and not video.is_file():
                raise ClipError("not a file")  # reading a pipe would wait for ever
            empty = not (video if isinstance(video, bytes) else video.stat().st_size)
            missing = missing_bytes(video)
        except OSError as error:
            raise ClipError(f"cannot be read ({error.strerror})") from error
        if empty:
            raise ClipError("the file is empty")
        if missing:
            raise ClipError(f"cut short: at least {missing} bytes are missing at the end")
        with self._open() as (container, stream):
            self.codec = stream.codec_context.name
            rate, base = stream.average_rate or stream.guessed_rate, stream.time_base
            stamps, first, announced, last = _index(container, stream)
            if container.format.name == "avi":  # knows the order of decoding only
                base = None
        if len(stamps) < least:
            raise ClipError(f"a clip needs at least {least} frames, got {len(stamps)}")
        if first is None or first.is_corrupt:
            raise ClipError("the first frame cannot be decoded")
        self.size = _pixels(first).shape[:2]
        known = sorted({stamp for stamp in stamps if stamp is not None})
        self._stamps: list[int] | None = None  # where not None, in the order of display
        if base and len(known) == len(stamps):
            self.times = (np.asarray(known, float) - known[0]) * float(base)
            self._stamps = known if self.codec in _STAMPED else None
        elif rate:
            self.times = np.arange(len(stamps)) / float(rate)
        else:
            raise ClipError("the file does not say its frame rate")
        gaps = np.diff(self.times)
        if len(gaps) and not 0 < gaps.min() <= gaps.max() <= _LONGEST:
            raise ClipError(
                f"frames last {gaps.min():g} to {gaps.max():g} s, up to {_LONGEST} can be"
            )
        frame = float(np.median(gaps)) if len(gaps) else 1.0
        if announced - last > max(3 * frame, 0.05 * announced):
            raise ClipError(f"{announced:.1f} s announced, but it ends after {last:.1f} s")

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n Y X 3"]:
        """Pixels of the chosen frames."""
        wanted = set(_checked(indices, len(self.times)))
        if self._stamps is not None and min(wanted):
            # A jump may land too late, or where frames lack what they refer to.
            with contextlib.suppress(ClipError):
                return self._read(indices, wanted, min(wanted))
        return self._read(indices, wanted, 0)

    def _read(self, indices: Sequence[int], wanted: set[int], first: int) -> np.ndarray:
        """Decode from the key frame at or before `first` to the last one wanted."""
        found: dict[int, np.ndarray] = {}
        for index, frame in self._decode(first):
            if not found and index > min(wanted):  # the jump came too late
                break
            if index in wanted:
                pixels = _pixels(frame)
                if pixels.shape[:2] != self.size:
                    raise ClipError(
                        f"frame {index} has {_px(pixels.shape)}, the first {_px(self.size)}"
                    )
                found[index] = pixels
            if index >= max(wanted):
                break
        missing = sorted(wanted - found.keys())
        if missing:
            raise ClipError(
                f"{len(self.times)} frames announced, but frame {missing[0]} cannot be decoded"
            )
        return np.stack([found[index] for index in indices])

    def _decode(self, first: int) -> Iterator[tuple[int, av.VideoFrame]]:
        """Frames with their numbers; damage on the way counts, wanted or not."""
        stamps = self._stamps
        number: dict[int | None, int] = {stamp: i for i, stamp in enumerate(stamps or ())}
        with self._open() as (container, stream), _complaints(self.codec) as complaints:
            if first and stamps:
                container.seek(stamps[first], stream=stream)
            for count, frame in enumerate(container.decode(stream)):
                index = number.get(frame.pts, -1) if stamps else count
                if frame.is_corrupt or complaints:
                    raise ClipError(f"frame {index} is damaged")
                if index >= 0:
                    yield index, frame

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        """The file and its first video stream, set up."""
        video = self._video
        try:
            with av.open(
                io.BytesIO(video) if isinstance(video, bytes) else f"file:{video}",
                "r",
                metadata_errors="replace",
                options={"max_pixels": str(_MOST_PIXELS)},
                container_options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"},
                timeout=_PATIENCE,
            ) as container:
                stream = next((s for s in container.streams.video if not _is_cover(s)), None)
                if stream is None:
                    raise ClipError("no video in the file")
                if getattr(stream, "codec_context", None) is None:
                    raise ClipError("no decoder for this kind of video")
                # Threads gain nothing at these sizes, and with slices in threads ffmpeg
                # notices a tenth of the damage it sees without.
                stream.thread_type = "NONE"
                stream.codec_context.options = {"max_pixels": str(_MOST_PIXELS)}
                yield container, stream
        except FFmpegError as error:
            raise ClipError(f"not a video, or a damaged one ({error.strerror})") from error


class Pictures:
    """A folder of pictures as one clip.

    Args:
        paths: of the pictures, in order.
        fps: of the frames.
        least: frames that a clip must have.

    Raises:
        ClipError: too few pictures, or an unreadable first one.
    """

    def __init__(self, paths: Sequence[Path], fps: float, *, least: int = 2):
        self.paths = paths
        if len(paths) < least:
            raise ClipError(f"a clip needs at least {least} frames, got {len(paths)}")
        self.times = np.arange(len(paths)) / fps
        self.size = self._picture(0).shape[:2]

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n Y X 3"]:
        """Pixels of the chosen frames."""
        pictures = [self._picture(index) for index in _checked(indices, len(self.paths))]
        for index, picture in zip(indices, pictures):
            if picture.shape[:2] != self.size:
                name, got, want = self.paths[index].name, _px(picture.shape), _px(self.size)
                raise ClipError(f"{name} has {got}, the first picture {want}")
        return np.stack(pictures)

    def _picture(self, index: int) -> np.ndarray:
        name = self.paths[index].name
        try:
            with Image.open(self.paths[index]) as picture:
                if picture.width * picture.height > _MOST_PIXELS:
                    raise ClipError(f"{name} claims {picture.width}x{picture.height} px")
                return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
        except ClipError:
            raise
        except Exception as error:  # damaged pictures raise nearly anything in Pillow
            raise ClipError(f"{name} is no readable picture") from error


class Array:
    """Frames that are made or read as one array when they are first asked for.

    Args:
        load: gives uint8 [M, Y, X, 3].
        fps: of the frames.
        count: M, where it is known without loading.
        size: (Y, X), likewise.
    """

    def __init__(self, load, fps: float, *, count: int, size: tuple[int, int]):
        self._load, self.size = load, size
        if count < 2:
            raise ClipError(f"a clip needs at least 2 frames, got {count}")
        self.times = np.arange(count) / fps

    def frames(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n Y X 3"]:
        """Pixels of the chosen frames."""
        return self._pixels[np.asarray(_checked(indices, len(self.times)))]

    @functools.cached_property
    def _pixels(self) -> np.ndarray:
        pixels = self._load()
        want = (len(self.times), *self.size, 3)
        if pixels.dtype != np.uint8 or pixels.shape != want:
            raise ClipError(f"want uint8 frames {want}, got {pixels.dtype} {pixels.shape}")
        return pixels


def _index(
    container: InputContainer, stream: VideoStream
) -> tuple[list[int | None], av.VideoFrame | None, float, float]:
    """Time stamps of all packets, the first frame, and the end, s: announced and found."""
    stamps, first, last = [], None, 0.0
    # Matroska says the length of the longest stream only.
    whole = container.format.name.startswith("matroska")
    for packet in container.demux() if whole else container.demux(stream):
        if packet.dts is None and packet.pts is None and not packet.size:
            continue
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is not None and packet.time_base:
            last = max(last, float((stamp + (packet.duration or 0)) * packet.time_base))
        if packet.stream_index != stream.index or not packet.size:
            continue
        if packet.is_corrupt:
            raise ClipError(f"packet {len(stamps)} is damaged")
        if first is None:
            first = next(iter(stream.decode(packet)), None)
        if not packet.is_discard:
            stamps.append(packet.pts)
    if first is None:
        first = next(iter(stream.decode(None)), None)
    announced = 0.0
    if whole and container.duration:
        announced = container.duration / 1e6
    elif container.format.name.startswith(("mov", "avi")) and stream.duration and stream.time_base:
        announced = float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    return stamps, first, announced, last


@contextlib.contextmanager
def _complaints(codec: str) -> Iterator[list]:
    """What ffmpeg logs as errors of this thread and codec: all it says of a damaged GIF.

    Other codecs mark frames, and log errors about files that are as they should be.
    """
    global _listening
    if codec != "gif":
        yield []
        return
    with _lock:  # the level is one for all threads
        _listening += 1
        av_logging.set_skip_repeated(False)
        av_logging.set_level(av_logging.ERROR)
    try:
        with av_logging.Capture(local=True) as messages:
            yield messages
    finally:
        with _lock:
            _listening -= 1
            if not _listening:
                av_logging.set_level(None)


def _pixels(frame: av.VideoFrame) -> UInt8[np.ndarray, "Y X 3"]:
    """A frame as it is to be shown: phones store it as the sensor lies, and a turn beside it."""
    pixels = frame.to_ndarray(format="rgb24")
    if (matrix := frame.side_data.get("DISPLAYMATRIX")) is None:
        return pixels
    (a, b), (c, d) = np.frombuffer(matrix, np.int32).reshape(3, 3)[:2, :2]
    if not a and not d:  # x and y change places: x' = c y, y' = b x
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _is_cover(stream: VideoStream) -> bool:
    """Whether it is the picture on a song's cover, which counts as video."""
    return bool(stream.disposition & Disposition.attached_pic)


def _px(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]} px"


def fps_of(reader: Reader) -> float:
    """Frames per second: the median, which a gap in a recording does not change."""
    return float(1 / np.median(np.diff(reader.times)))


def _checked(indices: Sequence[int], count: int) -> list[int]:
    indices = [int(index) for index in indices]
    if not indices or not 0 <= min(indices) <= max(indices) < count:
        raise ValueError(f"frame numbers must be in 0..{count - 1}, got {indices}")
    return indices
