"""The part of a picture that is to be shown, where the container says it.

Decoders cut what a stream itself says (H.264, HEVC); PyAV does not pass on what the container does:
MP4's and MOV's clean aperture (ISO/IEC 14496-12, `clap`), Matroska's PixelCrop (RFC 9559).
"""

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

_MOST = 2**26  # bytes of a header that are looked through
_PATH = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_ENTRY = 8 + 78  # bytes of a picture's sample entry before its own boxes
_SEGMENT, _TRACKS, _TRACK, _VIDEO, _CLUSTER = 0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0x1F43B675
_SIDES = {0x54BB: "top", 0x54AA: "bottom", 0x54CC: "left", 0x54DD: "right"}


class Crop(NamedTuple):
    """Pixels to be cut from each side."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0


def container_crop(video: Path | bytes, size: tuple[int, int]) -> Crop:
    """What a container wants cut from pictures of `size` (Y, X); nothing if it is not sound.

    Raises:
        OSError: the file cannot be read.
    """
    with io.BytesIO(video) if isinstance(video, bytes) else video.open("rb") as file:
        head = file.read(12)
        file.seek(0)
        try:
            if head[4:8] in (b"ftyp", b"moov", b"wide", b"mdat", b"free", b"skip"):
                found = _of_boxes(file, size)
            elif head[:4] == b"\x1a\x45\xdf\xa3":
                found = _of_matroska(file.read(_MOST // 64))
            else:
                return Crop()
        except (struct.error, IndexError, ZeroDivisionError):
            return Crop()
    height, width = size
    sound = (
        min(found) >= 0 and found.top + found.bottom < height and found.left + found.right < width
    )
    return found if sound else Crop()


def _of_boxes(file, size: tuple[int, int]) -> Crop:
    """From the first clean aperture of a track."""
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        more = 8
        if length == 1:
            length, more = struct.unpack(">Q", file.read(8))[0], 16
        if length < more:
            return Crop()
        if kind == b"moov":
            data = head + file.read(min(length - 8, _MOST))
            return next((_aperture(box, size) for box in _apertures(data)), Crop())
        file.seek(length - more, 1)
    return Crop()


def _apertures(data: bytes) -> Iterator[bytes]:
    """What the `clap` boxes in a `moov` hold."""
    level = [data]
    for number, name in enumerate(_PATH):
        level = [body for whole in level for kind, body in _boxes(whole) if kind == name]
        if number == len(_PATH) - 1:
            level = [body[8:] for body in level]  # version, number of entries
    for entries in level:
        for _, entry in _boxes(entries):
            yield from (body for kind, body in _boxes(entry[_ENTRY - 8 :]) if kind == b"clap")


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if length < 8:
            return
        yield kind, data[at + 8 : at + length]
        at += length


def _aperture(box: bytes, size: tuple[int, int]) -> Crop:
    """Width, height, and how far its middle lies right of and below the picture's."""
    numbers = struct.unpack(">4IiIiI", box[:32])
    width, height, right, down = (Fraction(*numbers[i : i + 2]) for i in (0, 2, 4, 6))
    left, top = (size[1] - width) / 2 + right, (size[0] - height) / 2 + down
    return Crop(
        round(top), size[0] - round(top) - round(height),
        round(left), size[1] - round(left) - round(width),
    )  # fmt: skip


def _of_matroska(data: bytes) -> Crop:
    """From the first track of pictures."""
    for name, body in _elements(data):
        if name != _SEGMENT:
            continue
        for part, tracks in _elements(body):
            if part == _CLUSTER:
                break
            for kind, track in _elements(tracks) if part == _TRACKS else ():
                for field, video in _elements(track) if kind == _TRACK else ():
                    if field == _VIDEO:
                        sides = {
                            _SIDES[side]: int.from_bytes(value, "big")
                            for side, value in _elements(video)
                            if side in _SIDES
                        }
                        return Crop(**sides)
    return Crop()


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Names and contents of EBML's elements; one of unknown length takes the rest."""
    at = 0
    while at < len(data) and data[at]:
        width = 9 - data[at].bit_length()
        name, at = int.from_bytes(data[at : at + width], "big"), at + width
        more = 9 - data[at].bit_length() if data[at] else 8
        length = int.from_bytes(data[at : at + more], "big") & ((1 << 7 * more) - 1)
        at += more
        if length == (1 << 7 * more) - 1:
            length = len(data) - at
        yield name, data[at : at + length]
        at += length
