"""From a decoded frame to the pixels that a viewer shows.

    alpha      over white
    crop       what the container says (`crop.py`); what the stream says decoders do
    HDR        PQ and HLG (BT.2100) to SDR: linear light in units of reference white (203 cd/m2,
               ITU-R BT.2408), BT.2020 to BT.709 primaries, a Moebius curve that leaves the lower
               30% alone and takes 1000 cd/m2 to white, then sRGB's curve
    shape      pixels that are not square become square: the width is scaled
    turn       quarter turns and mirrors, as phones store them beside the picture
    fields     interlaced frames by yadif: a frame for a frame

Matrix and range (limited or full) are ffmpeg's own reading of what the stream says.
"""

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.error import BlockingIOError as NoFrameYet
from av.error import EOFError as NoMoreFrames
from av.video.stream import VideoStream
from jaxtyping import UInt8
from PIL import Image

from fv_jax.array_types import Frame
from fv_jax.media.crop import Crop
from fv_jax.media.readers import BACKGROUND, MOST_PIXELS

_PQ, _HLG = 16, 18  # ITU-T H.273, transfer characteristics
_BT2020 = 9  # color primaries
_REFERENCE_WHITE, _PEAK = 203.0, 1000.0  # cd/m2
_KNEE = 0.3  # of reference white: below it nothing is changed
_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    np.float32,
)  # linear BT.2020 to BT.709 (ITU-R BT.2087)
_MOST_STRETCH = 8  # pixels more oblong than this are a damaged header


class Display:
    """How the frames of one stream are shown.

    Args:
        stream: whose frames they are.
        first: its first frame.
        crop: what the container wants cut from it.

    Attributes:
        notes: what is done to the frames, and what is not.
        interlaced: whether they have to go through `deinterlaced` first.
    """

    def __init__(self, stream: VideoStream, first: av.VideoFrame, crop: Crop = Crop()):
        self.notes: list[str] = []
        self._crop, self._stored = crop, (first.height, first.width)
        self._shape = _pixel_shape(stream)
        self.interlaced = first.interlaced_frame
        if self.interlaced:
            self.tell("interlaced: deinterlaced (yadif, a frame for a frame)")
        if any(crop):
            self.tell("cropped as the container says")
        if self._shape != 1:
            self.tell(f"pixels of {self._shape} are shown square, the width scaled")
        if first.color_trc in (_PQ, _HLG):
            name = "PQ" if first.color_trc == _PQ else "HLG"
            self.tell(f"HDR ({name}): tone-mapped to SDR, {_PEAK:g} cd/m2 to white")

    def tell(self, note: str) -> None:
        """Note it, once."""
        if note not in self.notes:
            self.notes.append(note)

    def pixels(self, frame: av.VideoFrame, matrix: bytes | None) -> Frame:
        """A frame as it is to be shown, `matrix` being its display matrix if it has one."""
        if frame.interlaced_frame and not self.interlaced:
            self.tell("interlaced later on: shown as stored")
        if any(part.is_alpha for part in frame.format.components) or frame.format.name == "pal8":
            pixels = over_background(frame.to_ndarray(format="rgba"))
            if pixels is None:
                pixels = frame.to_ndarray(format="rgb24")
            else:
                self.tell("transparent pixels are shown on white")
        elif frame.color_trc in (_PQ, _HLG):
            pixels = tone_mapped(frame)
        else:
            pixels = frame.to_ndarray(format="rgb24")
        if pixels.shape[:2] == self._stored:
            top, bottom, left, right = self._crop
            pixels = pixels[top : pixels.shape[0] - bottom, left : pixels.shape[1] - right]
        height, stored = pixels.shape[:2]
        width = round(stored * self._shape)
        if width != stored and 0 < width * height <= MOST_PIXELS:
            scaled = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
            pixels = np.asarray(scaled)
        return pixels if matrix is None else self._turned(pixels, matrix)

    def _turned(self, pixels: np.ndarray, matrix: bytes) -> np.ndarray:
        """By x' = a x + c y, y' = b x + d y."""
        (a, b), (c, d) = np.frombuffer(matrix, np.int32).reshape(3, 3)[:2, :2]
        if (a or d) and (b or c):
            self.tell("turned by less than a quarter: shown as stored")
            return pixels
        if not a and not d:  # x and y change places
            pixels, a, d = pixels.swapaxes(0, 1), c, b
        return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def over_background(rgba: UInt8[np.ndarray, "Y X 4"]) -> Frame | None:
    """Straight alpha over white; None if nothing is transparent."""
    alpha = rgba[..., 3:].astype(np.uint16)
    if alpha.min() == 255:
        return None
    mixed = rgba[..., :3] * alpha + BACKGROUND * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def tone_mapped(frame: av.VideoFrame) -> Frame:
    """An HDR frame for screens that are not."""
    codes = frame.reformat(format="rgb48le").to_ndarray()
    light = (_PQ_LIGHT if frame.color_trc == _PQ else _HLG_LIGHT)()[codes]
    if frame.color_trc == _HLG:  # the display's gamma works on luminance (BT.2100: 1.2)
        luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light = light * (_PEAK / _REFERENCE_WHITE * luminance**0.2)[..., None]
    if frame.color_primaries in (_BT2020, 2):  # or not said
        light = light @ _TO_BT709.T
    light = np.maximum(light, 0)
    brightest = light.max(axis=-1, keepdims=True)  # one factor for all three keeps the hue
    light = light * (_moebius(brightest) / np.maximum(brightest, 1e-6))
    return _srgb(np.minimum(light, 1))


def deinterlaced(
    frames: Iterator[tuple[object, av.VideoFrame]], stream: VideoStream
) -> Iterator[tuple[object, av.VideoFrame]]:
    """Frames in, as many out, each with what came with it; progressive ones as they were."""
    waiting: list[object] = []
    source = sink = None
    for about, frame in frames:
        if source is None:
            graph = av.filter.Graph()
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format,
                time_base=stream.time_base or Fraction(1, 1000),
            )  # fmt: skip
            yadif = graph.add("yadif", "mode=send_frame:deint=interlaced")
            sink = graph.add("buffersink")
            source.link_to(yadif)
            yadif.link_to(sink)
            graph.configure()
        waiting.append(about)
        source.push(frame)
        yield from _pulled(sink, waiting)
    if source is not None:
        source.push(None)
        yield from _pulled(sink, waiting)


def _pulled(sink, waiting: list) -> Iterator[tuple[object, av.VideoFrame]]:
    while waiting:
        try:
            frame = sink.pull()
        except (NoFrameYet, NoMoreFrames):
            return
        yield waiting.pop(0), frame


def _pixel_shape(stream: VideoStream) -> Fraction:
    """Width of a pixel by its height."""
    shape = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if not shape or not Fraction(1, _MOST_STRETCH) <= shape <= _MOST_STRETCH:
        return Fraction(1)
    return Fraction(shape)


def _table(function):
    """A function of 16-bit codes as a table that is made when it is first needed."""
    made: list[np.ndarray] = []

    def table() -> np.ndarray:
        if not made:
            made.append(function(np.linspace(0, 1, 65536)).astype(np.float32))
        return made[0]

    return table


@_table
def _PQ_LIGHT(code: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084: light in units of reference white."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = code ** (1 / m2)
    light = (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    return light * (10000 / _REFERENCE_WHITE)


@_table
def _HLG_LIGHT(code: np.ndarray) -> np.ndarray:
    """ARIB STD-B67: light of the scene, 0 to 1."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)


def _moebius(light: np.ndarray) -> np.ndarray:
    """The identity up to the knee, then a bend that reaches 1 at the peak, and stays there."""
    peak = _PEAK / _REFERENCE_WHITE
    a = -(_KNEE**2) * (peak - 1) / (_KNEE**2 - 2 * _KNEE + peak)
    b = (_KNEE**2 - 2 * _KNEE * peak + peak) / (peak - 1)
    scale = (b * b + 2 * b * _KNEE + _KNEE**2) / (b - a)
    bent = scale * (light + a) / (light + b)
    return np.where(light <= _KNEE, light, np.minimum(bent, 1))


def _srgb(light: np.ndarray) -> Frame:
    """Linear light in [0, 1] to sRGB's 8 bits (IEC 61966-2-1)."""
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(code * 255).astype(np.uint8)
