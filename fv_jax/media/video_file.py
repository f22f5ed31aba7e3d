"""Video files: anything that PyAV reads, as it is to be shown (`display.py`).

A file is indexed by its packets (`times.py`); only its beginning is decoded then. Where the
packets' time stamps can be trusted a reader jumps to the key frame before what is wanted; where
they cannot (AVI with B-frames, say) it decodes from the start and counts.

Frames that cannot be decoded are left out, and time goes on: the frame before stays on the screen.
Where packets look damaged all is decoded once at opening, to know which frames there are. Damage
that shows itself later only is remembered for the next opening; until then the frame before stands
for one that does not come.
"""

import contextlib
import io
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from av import logging as av_logging
from av.codec.context import CodecContext, Flags
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from fv_jax.array_types import Frame, Frames
from fv_jax.media import times
from fv_jax.media.crop import container_crop
from fv_jax.media.cut_short import missing_bytes
from fv_jax.media.display import Display, deinterlaced
from fv_jax.media.readers import MOST_PIXELS, ClipError, checked, gathered, px

VIDEO_SUFFIXES = (
    ".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv",
    ".3gp", ".3g2", ".f4v", ".ts", ".mts", ".m2ts", ".m2t", ".tp", ".trp", ".m1v", ".m2v", ".vob",
    ".asf", ".ogm", ".qt", ".divx", ".xvid", ".mpe", ".gif",
)  # fmt: skip

# Demuxers of video. Not those that open other files, or the network, such as playlists.
_FORMATS = "mov,matroska,webm,avi,gif,mpeg,mpegvideo,mpegts,asf,flv,ogg,live_flv"
_PATIENCE = 60.0  # seconds for one packet: on a slow network yes, in circles no
# FFmpeg's own decoders of VP8 and VP9 leave the alpha channel out.
# Before 19 PyAV took names and titles for exact UTF-8 unless it was told otherwise.
_LENIENT = {} if int(av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "replace"}
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}

STANDING_IN = "more frames cannot be decoded: the ones before stand for them"

_lock, _listening = threading.Lock(), 0
logging.getLogger("libav").addHandler(logging.NullHandler())
_damaged: set[tuple] = set()  # files in which reading has found damage that packets do not show


class VideoFile:
    """A video, as a viewer shows it. Opened anew for each call.

    What counts as damage is what ffmpeg can know: a file shorter than it says, packets or frames
    marked as corrupt, frames announced that do not come. Video has no checksums, so a changed
    bit may decode into wrong pixels that nothing tells from right ones: most such bits are seen
    in H.264, about half in MPEG-4, few in GIF and HEVC, hardly any in VP9 (`pytest -m slow -s
    tests/media/test_fuzz.py` counts). Files cut short are all seen where the container says its
    length in bytes (`cut_short.py`), in FLV where it says seconds; MPEG, WMV and Ogg do not.

    Args:
        video: a file, or what one holds; its content decides what it is, not its suffix.
        least: frames that a clip must have.

    Raises:
        ClipError: no file, empty, no video in it, cut short, or too few frames to be decoded.
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
        self._read_index(least)

    def _read_index(self, least: int) -> None:
        with self._open() as (container, stream), _complaints(stream) as complaints:
            self.codec = stream.codec_context.name
            decoder = FrameDecoder(stream, complaints)
            index = times.index(container, stream, decoder)
            if len(index.stamps) < least:
                raise ClipError(f"a clip needs at least {least} frames, got {len(index.stamps)}")
            if index.first is None:
                raise ClipError("the first frame cannot be decoded, nor any other")
            crop = container_crop(self._video, (index.first.height, index.first.width))
            self._display, self._turn = Display(stream, index.first, crop), _matrix(index.first)
            found = times.times(index, container, stream, self.codec)
        self._keys: Sequence[int] = found.stamps or range(len(found.seconds))
        self._stamped, self._told = found.stamps is not None, list(found.notes)
        self.times, self._late = found.seconds, False
        self._check_length(index)
        start = index.first.pts
        if found.stamps and start in found.stamps:  # what came before gave no frame
            early = found.stamps.index(start)
            self._keys = found.stamps[early:]
            self.times = found.seconds[early:] - found.seconds[early]
            self._tell_lost(early, len(found.seconds))
        elif decoder.bad or index.begins_late:
            index.doubtful = True
        if index.doubtful or self._identity in _damaged:
            self._survey(index)
        if len(self.times) < least:
            raise ClipError(
                f"a clip needs at least {least} frames, {len(self.times)} of "
                f"{len(index.stamps)} can be decoded"
            )
        self.size = self._display.pixels(index.first, self._turn).shape[:2]

    def _check_length(self, index: times.Index) -> None:
        gaps = np.diff(self.times)
        frame = float(np.median(gaps)) if len(gaps) else 1.0
        if index.announced - index.last > max(3 * frame, 0.05 * index.announced):
            raise ClipError(
                f"{index.announced:.1f} s announced, but it ends after {index.last:.1f} s"
            )

    def _survey(self, index: times.Index) -> None:
        """Decode everything once, and keep the times of what can be decoded."""
        announced, whole = len(index.stamps), []
        with self._open() as (container, stream), _complaints(stream) as complaints:
            decoder = FrameDecoder(stream, complaints)
            for number, (frame, good) in enumerate(decoder.all(container)):
                if good:
                    whole.append((number, frame.pts))
            if len(whole) == announced:
                return
            if not whole:
                raise ClipError("no frame can be decoded")
            found, numbers = times.of_decoded(whole, index, stream, self.codec)
        self._keys, self._stamped = found.stamps or numbers, found.stamps is not None
        self.times, self._told = found.seconds, list(found.notes)
        self._tell_lost(announced - len(whole), announced)

    def _tell_lost(self, lost: int, announced: int) -> None:
        if lost > 0:
            self._told.append(f"{lost} of {announced} frames cannot be decoded: left out")

    @property
    def notes(self) -> list[str]:
        """What was done to show the clip, and what could not be: one line each."""
        return [*self._told, *self._display.notes, *([STANDING_IN] if self._late else [])]

    @property
    def _identity(self) -> tuple | None:
        """Tells the file from what somebody may write in its place; None for bytes."""
        if isinstance(self._video, bytes):
            return None
        stat = os.stat(self._video)
        return str(self._video), stat.st_size, stat.st_mtime_ns

    def frames(self, indices: Sequence[int]) -> Frames:
        """Pixels of the chosen frames."""
        return gathered(self, indices)

    def each(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Pixels of the chosen frames, one by one, decoded once."""
        wanted = checked(indices, len(self.times))
        if self._stamped and wanted[0]:
            came = self._read(wanted, wanted[0])
            first = next(came, None)
            if first is not None:
                yield first
                yield from came
                return
            # The jump landed too late, or where frames lack what they refer to.
        yield from self._read(wanted, 0)

    def _read(self, wanted: Sequence[int], first: int) -> Iterator[Frame]:
        """Decode from the key frame at or before `first` to the last frame wanted.

        Nothing comes if that begins after the first frame wanted.
        """
        at, before = 0, None
        for now in self._decode(first):
            number = now[0]
            if wanted[at] < number:
                if first and before is None:
                    return
                pixels = self._shown(*(before or now))
                while at < len(wanted) and wanted[at] < number:  # these did not come
                    self._found_damage()
                    yield pixels
                    at += 1
            if at < len(wanted) and wanted[at] == number:
                pixels = self._shown(*now)
                while at < len(wanted) and wanted[at] == number:
                    yield pixels
                    at += 1
            if at == len(wanted):
                return
            before = now
        if before is None:
            if first:
                return
            raise ClipError("no frame can be decoded")
        pixels = self._shown(*before)
        for _ in wanted[at:]:
            self._found_damage()
            yield pixels

    def _decode(self, first: int) -> Iterator[tuple[int, av.VideoFrame, bytes | None]]:
        """Whole frames with their numbers and display matrices, from the start or a jump on."""
        number = {key: index for index, key in enumerate(self._keys)}
        with self._open() as (container, stream), _complaints(stream) as complaints:
            if first:
                container.seek(self._keys[first], stream=stream)
            frames = FrameDecoder(stream, complaints).all(container)
            whole = (
                (
                    # H.264 and HEVC may say the turn once, for all frames that follow.
                    (
                        number.get(frame.pts if self._stamped else count, -1),
                        _matrix(frame) or self._turn,
                    ),
                    frame,
                )
                for count, (frame, good) in enumerate(frames)
                if good
            )
            shown = deinterlaced(whole, stream) if self._display.interlaced else whole
            for (index, matrix), frame in shown:
                if index >= 0:
                    yield index, frame, matrix

    def _shown(self, number: int, frame: av.VideoFrame, matrix: bytes | None) -> np.ndarray:
        pixels = self._display.pixels(frame, matrix)
        if pixels.shape[:2] != self.size:
            raise ClipError(f"frame {number} has {px(pixels.shape)}, the first {px(self.size)}")
        return pixels

    def _found_damage(self) -> None:
        self._late = True
        if self._identity:
            _damaged.add(self._identity)

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        """The file and its first video stream, set up."""
        video = self._video
        try:
            with av.open(
                io.BytesIO(video) if isinstance(video, bytes) else f"file:{video}",
                "r",
                **_LENIENT,
                options={"max_pixels": str(MOST_PIXELS)},
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
                stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
                # Without it decoders cut from the left no fewer columns than suit them.
                stream.codec_context.flags |= Flags.unaligned
                yield container, stream
        except FFmpegError as error:
            raise ClipError(f"not a video, or a damaged one ({error.strerror})") from error


class FrameDecoder:
    """Packets in, frames out, each with whether it is whole.

    Attributes:
        bad: a packet could not be decoded, or a frame was not whole.
    """

    def __init__(self, stream: VideoStream, complaints: list):
        self._stream, self._complaints, self.bad = stream, complaints, False
        self._context = stream.codec_context
        name = _ALPHA_DECODERS.get(self._context.name)
        if name in av.codecs_available and stream.metadata.get("alpha_mode") == "1":
            self._context = CodecContext.create(name, "r")
            self._context.options = {"max_pixels": str(MOST_PIXELS)}

    def __call__(self, packet: av.Packet | None) -> Iterator[tuple[av.VideoFrame, bool]]:
        """Frames that a packet completes; None asks for the last ones."""
        heard = len(self._complaints)
        try:
            frames = self._context.decode(packet)
        except (FFmpegError, ValueError):  # ValueError: a decoder that PyAV 19 could not open
            self.bad = True
            return
        for frame in frames:
            good = not frame.is_corrupt and len(self._complaints) == heard
            self.bad |= not good
            yield frame, good

    def all(self, container: InputContainer) -> Iterator[tuple[av.VideoFrame, bool]]:
        """Every frame from where the container stands."""
        for packet in times.packets(container, self._stream):
            if packet.size:
                yield from self(packet)
        yield from self(None)


@contextlib.contextmanager
def _complaints(stream: VideoStream) -> Iterator[list]:
    """What ffmpeg logs as errors of this thread and codec: all it says of a damaged GIF.

    Other codecs mark frames, and log errors about files that are as they should be.
    """
    global _listening
    if stream.codec_context.name != "gif":
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


def _matrix(frame: av.VideoFrame) -> bytes | None:
    """How the picture is to be turned: phones store it as the sensor lies, and a turn beside it."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return None if matrix is None else bytes(matrix)


def _is_cover(stream: VideoStream) -> bool:
    """Whether it is the picture on a song's cover, which counts as video."""
    return bool(stream.disposition & Disposition.attached_pic)
