"""Files that were cut short: most containers say how long they are.

A decoder does not mind a missing end: it plays what is there. A download that broke off would
silently give a shorter clip, so the announced length is compared with the file's.
"""

import io
import os
from pathlib import Path
from typing import Literal

_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")  # that MP4s begin with
_LATER_BOXES = (b"moof", b"mfra", b"sidx", b"ssix", b"styp", b"uuid", b"meta", b"emsg", b"prft",
                b"pdin", b"udta")  # fmt: skip
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # Matroska, WebM


def missing_bytes(video: Path | bytes) -> int:
    """How many bytes a video lacks at its end, at the least; 0 if none, or if it cannot be said.

    Known of MP4 and MOV, AVI, Matroska and WebM, and GIF.

    Raises:
        OSError: the file cannot be read.
    """
    with io.BytesIO(video) if isinstance(video, bytes) else video.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(12)
        if head[4:8] in _BOXES:
            return max(0, _end_of_boxes(file, size) - size)
        if head[:4] == b"RIFF":
            return max(0, _end_of_riff(file, size) - size)
        if head[:4] == _EBML:
            return max(0, _end_of_segment(file) - size)
        if head[:4] == b"GIF8":
            return 0 if _gif_ends(file, size) else 1
    return 0


def _end_of_boxes(file: io.BufferedIOBase, size: int) -> int:
    """Where the last of an MP4's top-level boxes ends; the first field of each is its length."""
    end = 0
    while end + 8 <= size:
        file.seek(end)
        length, kind = _number(file.read(4)), file.read(4)
        if length == 1:
            length = _number(file.read(8))
        if length < 8 or kind not in (*_BOXES, *_LATER_BOXES):
            break  # "to the end", or what others have put behind the boxes
        end += length
    return end


def _end_of_riff(file: io.BufferedIOBase, size: int) -> int:
    """Where the last RIFF chunk of an AVI ends; long files have several."""
    end = 0
    while end + 8 <= size:
        file.seek(end)
        kind, length = file.read(4), _number(file.read(4), "little")
        if kind != b"RIFF" or length in (0, 0xFFFFFFFF):  # never filled in: a recording broke off
            break
        end += 8 + length
    return end


def _gif_ends(file: io.BufferedIOBase, size: int) -> bool:
    """Whether the blocks of a GIF come to its end mark, whatever follows."""
    file.seek(10)
    flags = file.read(3)
    if len(flags) < 3:
        return False
    file.seek(_palette(flags[0]), os.SEEK_CUR)
    while (kind := file.read(1)) in (b"!", b",", b"\0"):
        if kind == b"\0":  # a stray end of a block: decoders pass over it
            continue
        if kind == b"!":
            file.seek(1, os.SEEK_CUR)
        else:
            head = file.read(9)
            if len(head) < 9:
                return False
            file.seek(_palette(head[8]) + 1, os.SEEK_CUR)
        while length := file.read(1):
            if length == b"\0":
                break
            file.seek(length[0], os.SEEK_CUR)
    if kind:  # the end mark, or a block of no known kind: damage, but no missing end
        return True
    file.seek(max(0, size - 4096))
    return file.read().rstrip(b"\0").endswith(b";")


def _palette(flags: int) -> int:
    """Bytes of the color table that these flags announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _end_of_segment(file: io.BufferedIOBase) -> int:
    """Where the segment of a Matroska file ends; 0 for a stream of unknown length."""
    file.seek(4)
    header = _ebml_length(file)
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return 0
    length = _ebml_length(file)
    return file.tell() + length if length else 0


def _ebml_length(file: io.BufferedIOBase) -> int:
    """A number whose leading zero bits say how many bytes it has; all ones (unknown) give 0."""
    first = file.read(1)
    if not first or not first[0]:
        return 0
    more = 8 - first[0].bit_length()
    bits = 7 * (more + 1)
    value = _number(first + file.read(more)) & ((1 << bits) - 1)
    return 0 if value == (1 << bits) - 1 else value


def _number(data: bytes, order: Literal["big", "little"] = "big") -> int:
    return int.from_bytes(data, order)
