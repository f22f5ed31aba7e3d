"""When the frames of a file appear: what its packets say, and what can be made of it.

Nothing is decoded but the beginning. In most files every packet carries the time of its frame. AVI
knows the place of each packet only, with empty packets where frames were dropped; old MPEG leaves
times out; recordings that were joined begin anew in the middle.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from jaxtyping import Float

from fv_jax.media.readers import ClipError

# Codecs whose packets carry the time stamp of the frame that comes of them.
_STAMPED = ("h264", "hevc", "vp8", "vp9", "av1", "gif", "mjpeg", "prores", "png", "qtrle", "apng")
_LONGEST = 3600  # seconds on the screen; a damaged stamp may claim any
_MOST_REORDERED = 16  # frames that one may be decoded ahead of its turn (H.264, HEVC)
_SHORT, _AS_SHOWN = 1, 10  # 1/100 s: a GIF's frame that is to last so long or less lasts 100 ms
_FINE, _TICKS = 2e-3, 5  # seconds of a tick, and ticks of a frame: one of a single tick is none
_CHUNK_HEAD = 8  # bytes before what a chunk of an AVI holds
_NAL_LENGTHS = {"h264": 4, "hevc": 21}  # where the header says how long a NAL's length is


@dataclasses.dataclass
class Index:
    """What the packets of a stream say.

    Attributes:
        stamps: of every packet that gives a frame, in the order of the file: presentation time.
        order: likewise, the time of decoding.
        first: the first frame that could be decoded, None if none could.
        announced: seconds that the container says the stream has; 0 if it does not say.
        last: seconds at which the last packet ends.
        doubtful: a packet is damaged or cannot be what it should, so that frames may be missing.
        joined: the clock was set back on the way.
        delay: packets after its own with which the decoder gives a frame.
        key_first: the first packet can be decoded without others.
    """

    stamps: list[int | None] = dataclasses.field(default_factory=list)
    order: list[int | None] = dataclasses.field(default_factory=list)
    first: av.VideoFrame | None = None
    announced: float = 0.0
    last: float = 0.0
    doubtful: bool = False
    joined: bool = False
    delay: int = 0
    key_first: bool = True

    @property
    def begins_late(self) -> bool:
        """Whether frames before the first one may not be decodable."""
        start = self.first.pts if self.first else None
        known = [stamp for stamp in self.stamps if stamp is not None]
        if 0 < len(known) < len(self.stamps):  # cut out of a stream, some lost their time
            return True
        return not self.key_first or any(stamp < start for stamp in known if start is not None)


@dataclasses.dataclass(frozen=True)
class Times:
    """When frames appear.

    Attributes:
        seconds: of every frame, rising, the first 0.
        stamps: likewise, the time stamp by which a decoded frame is known; None where frames have
            to be counted from the start.
        notes: what had to be made up.
    """

    seconds: Float[np.ndarray, " F"]
    stamps: list[int] | None
    notes: tuple[str, ...] = ()


def index(
    container: InputContainer,
    stream: VideoStream,
    decode: Callable[[av.Packet | None], Iterator[tuple[av.VideoFrame, bool]]],
) -> Index:
    """Read all packets, and decode until the first whole frame."""
    found, form = Index(), container.format.name
    # Matroska and FLV say the length of the longest stream only.
    whole = form.startswith(("matroska", "flv"))
    looks_whole = _inspector(stream)
    before, ahead = None, 0  # decoding time of the packet before, and what the clock lost
    latest = None  # presentation time so far
    for packet in container.demux() if whole else packets(container, stream):
        if packet.dts is None and packet.pts is None and not packet.size:
            continue
        stamp = packet.dts if packet.pts is None else packet.pts
        if packet.stream_index != stream.index or not packet.size:
            if stamp is not None and packet.time_base:
                ended = float((stamp + (packet.duration or 0)) * packet.time_base)
                found.last = max(found.last, ended)
            continue
        if packet.dts is not None and not packet.is_discard:
            # Where one part of an edit list ends, frames of the next may be decoded before.
            slack = _MOST_REORDERED * (packet.duration or 0) if form.startswith("mov") else 0
            # Where the order of decoding is made up, it alone may fall.
            back = None in (packet.pts, latest) or packet.pts < latest
            if before is not None and packet.dts < before - slack and back:
                ahead += before - packet.dts + (packet.duration or 1)
                found.joined, latest = True, None
            before = packet.dts
            if packet.pts is not None:
                latest = packet.pts if latest is None else max(latest, packet.pts)
        if stamp is not None and packet.time_base:
            ended = float((stamp + ahead + (packet.duration or 0)) * packet.time_base)
            found.last = max(found.last, ended)
        found.doubtful |= packet.is_corrupt or not looks_whole(packet)
        if found.first is None:
            found.first = next((frame for frame, good in decode(packet) if good), None)
        if not found.stamps:
            found.key_first = packet.is_keyframe
        if not packet.is_discard:
            found.stamps.append(None if packet.pts is None else packet.pts + ahead)
            found.order.append(None if packet.dts is None else packet.dts + ahead)
    if found.first is None:
        found.first = next((frame for frame, good in decode(None) if good), None)
    found.delay = stream.codec_context.reorder_depth
    if whole and container.duration:
        found.announced = container.duration / 1e6
    elif form.startswith(("mov", "avi")) and stream.duration and stream.time_base:
        found.announced = float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    return found


def packets(container: InputContainer, stream: VideoStream) -> Iterator[av.Packet]:
    """The packets of a stream; those of an AVI have the times of its index, if it has one.

    Without it they would be counted, and those behind a loss come too early.
    """
    places: dict[int, int] = {}
    if container.format.name == "avi":
        places = {entry.pos + _CHUNK_HEAD: entry.timestamp for entry in stream.index_entries}
    for packet in container.demux(stream):
        if (place := places.get(packet.pos)) is not None:
            packet.pts, packet.dts = None if packet.pts is None else place, place
        yield packet


def times(index: Index, container: InputContainer, stream: VideoStream, codec: str) -> Times:
    """The times that a stream's packets give.

    Raises:
        ClipError: they give none, or a frame lasts longer than any should.
    """
    base, stamps, order, form = stream.time_base, index.stamps, index.order, container.format.name
    if form == "avi":  # knows the order of decoding only: a frame's time is that of when it comes
        slots = sorted({slot for slot in order if slot is not None})
        if base and len(slots) == len(order):
            step = max(1, int(np.median(np.diff(slots)))) if len(slots) > 1 else 1
            came = [*slots, *(slots[-1] + step * (i + 1) for i in range(index.delay))]
            return _timed(came[index.delay :], float(base), None)
        return evenly(stream, len(stamps))
    if form == "mpegvideo":  # a stream without a container: what ffmpeg makes up is not even
        return evenly(stream, len(stamps))
    notes: tuple[str, ...] = ("the clock is set back on the way: taken as joined",)
    notes = notes if index.joined else ()
    known = sorted(stamp for stamp in stamps if stamp is not None)
    if not base or not known:
        return evenly(stream, len(stamps))
    if len(known) < len(stamps):  # the order of decoding, then, if that is known
        known = sorted({slot for slot in order if slot is not None})
        if len(known) < len(stamps):
            return evenly(stream, len(stamps))
    # Where frames come in another order than packets, stamps that rise are of packets (ASF).
    of_packets = bool(index.delay) and stamps == known
    jump = codec in _STAMPED and not index.joined and None not in stamps and not of_packets
    jump &= len(set(known)) == len(known)
    if form == "gif":
        gaps = np.diff(known)
        seconds = np.cumsum([0, *np.where(gaps <= _SHORT, _AS_SHOWN, gaps)]) * float(base)
        return _checked(seconds, known if jump else None, notes)
    return _timed(known, float(base), known if jump else None, notes)


def evenly(stream: VideoStream, count: int) -> Times:
    """As many frames at the rate that the file says.

    Raises:
        ClipError: it says none.
    """
    rate = stream.average_rate or stream.guessed_rate
    if not rate:
        raise ClipError("the file does not say its frame rate")
    note = f"frames have no times of their own: taken as even, {float(rate):g} fps"
    return Times(np.arange(count) / float(rate), None, (note,))


def of_decoded(
    frames: Sequence[tuple[int, int | None]], index: Index, stream: VideoStream, codec: str
) -> tuple[Times, list[int]]:
    """Times of the frames that were decoded, by number and stamp, and which numbers they are."""
    base = stream.time_base
    stamps = [stamp for _, stamp in frames if stamp is not None]
    known, missing = sorted(set(stamps)), len(frames) - len(stamps)
    if base and missing and len(known) > 1 and stamps == known:
        places = [place for place, (_, stamp) in enumerate(frames) if stamp is not None]
        filled = _between(np.asarray(known, float), places, len(frames)) * float(base)
        found = _checked(filled, None, (f"{missing} frames have no time: spread between others",))
    elif base and len(known) == len(frames):
        jump = codec in _STAMPED and not index.joined and stamps == known
        found = _timed(known, float(base), known if jump else None)
    else:
        found = evenly(stream, len(frames))
    return found, [number for number, _ in frames]


def _timed(
    rising: list[int], base: float, stamps: list[int] | None, notes: tuple[str, ...] = ()
) -> Times:
    """Times of rising stamps; frames of one time are spread to the next.

    Writers that may not repeat a time put such a frame a tick later.
    """
    values = np.asarray(rising, float)
    gaps = np.diff(values)
    tick = int(base <= _FINE and len(gaps) > 0 and gaps.mean() >= _TICKS)
    close = gaps <= tick
    if close.any():
        own = np.concatenate([[True], ~close])
        values = _spread(values[own][np.cumsum(own) - 1])
        notes += (f"{close.sum()} frames have the time of another one: spread to the next time",)
    return _checked((values - values[0]) * base, stamps, notes)


def _between(stamps: np.ndarray, places: list[int], count: int) -> np.ndarray:
    """Rising stamps of some of `count` frames, and even ones between and beside them, from 0 on."""
    step = float(np.median(np.diff(stamps) / np.diff(places)))
    first, last = stamps[0] - step * places[0], stamps[-1] + step * (count - 1 - places[-1])
    known = np.concatenate([[first], stamps, [last]])
    return np.interp(np.arange(count), [0, *places, count - 1], known) - first


def _spread(stamps: np.ndarray) -> np.ndarray:
    """Rising stamps, equal ones spread evenly up to the next, from 0 on."""
    values, first, counts = np.unique(stamps, return_index=True, return_counts=True)
    gaps = np.diff(values)
    last = np.median(gaps) if len(gaps) else 1.0
    steps = np.append(gaps, last) / counts
    place = np.arange(len(stamps)) - np.repeat(first, counts)
    return np.repeat(values, counts) + place * np.repeat(steps, counts) - values[0]


def _checked(seconds: np.ndarray, stamps: list[int] | None, notes: tuple[str, ...] = ()) -> Times:
    gaps = np.diff(seconds)
    if len(gaps) and not 0 < gaps.min() <= gaps.max() <= _LONGEST:
        raise ClipError(f"frames last {gaps.min():g} to {gaps.max():g} s, up to {_LONGEST} can be")
    return Times(seconds, stamps, notes)


def _inspector(stream: VideoStream) -> Callable[[av.Packet], bool]:
    """Whether a packet can be what it should: a look at its frame's outline, nothing decoded."""
    codec = stream.codec_context.name
    extra = stream.codec_context.extradata or b""
    place = _NAL_LENGTHS.get(codec)
    if place is not None and len(extra) > place and extra[0] == 1:
        size = (extra[place] & 3) + 1
        return lambda packet: _nals_fit(memoryview(packet), size, codec)
    if codec == "vp9":
        return lambda packet: memoryview(packet)[0] >> 6 == 2
    if codec == "mjpeg":
        return lambda packet: bytes(memoryview(packet)[:2]) == b"\xff\xd8"
    if codec == "mpeg4":
        return lambda packet: bytes(memoryview(packet)[:3]) == b"\0\0\1" or packet.size < 8
    return lambda packet: True


def _nals_fit(data: memoryview, size: int, codec: str) -> bool:
    """Whether the units of an H.264 or HEVC packet fill it, and begin with a zero bit."""
    at, units = 0, 0
    while at + size < len(data):
        length = int.from_bytes(data[at : at + size], "big")
        at += size
        if not length or at + length > len(data) or data[at] & 0x80:
            return False
        kind = data[at] & 31 if codec == "h264" else data[at] >> 1
        if not kind and codec == "h264":
            return False
        at, units = at + length, units + 1
    return at == len(data) and units > 0
