"""Crop rectangles that containers hold: written into files, and cut from pictures."""

import struct

import numpy as np
import pytest
import videos

from fv_jax.media import open_clip
from fv_jax.media.crop import Crop, container_crop


def with_aperture(data, width, height, right=0, down=0, over=1):
    """An MP4 whose `moov` is last, with a clean aperture in its track of pictures."""
    box = struct.pack(">I4s4IiIiI", 40, b"clap", width * over, over, height * over, over,
                      right, 2, down, 2)  # fmt: skip
    data = bytearray(data)
    names = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1")
    places, at = [], 0
    for name in names:
        at = data.index(name, at) - 4
        places.append(at)
        at += 8
    end = places[-1] + struct.unpack_from(">I", data, places[-1])[0]
    for place in places:
        struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + 40)
    data[end:end] = box
    return bytes(data)


@pytest.mark.parametrize(
    ("aperture", "crop"),
    [((40, 30), Crop(9, 9, 12, 12)), ((40, 30, -12, 6), Crop(12, 6, 6, 18)),
     ((40, 30, 0, 0, 7), Crop(9, 9, 12, 12)), ((64, 48), Crop())],
)  # fmt: skip
def test_a_clean_aperture_is_cut_out(aperture, crop, tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.noise(6), "mp4")
    whole = open_clip(path).frames(range(6))
    path.write_bytes(with_aperture(path.read_bytes(), *aperture))
    assert container_crop(path, (48, 64)) == crop
    reader = open_clip(path)
    want = whole[:, crop.top : 48 - crop.bottom, crop.left : 64 - crop.right]
    assert reader.size == want.shape[1:3]
    np.testing.assert_array_equal(reader.frames(range(6)), want)
    assert reader.notes == (["cropped as the container says"] if any(crop) else [])


@pytest.mark.parametrize("aperture", [(0, 0), (90, 30), (40, 30, 80, 0), (40, 30, 0, 0, 0)])
def test_an_aperture_that_is_not_sound_cuts_nothing(aperture, tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.noise(6), "mp4")
    path.write_bytes(with_aperture(path.read_bytes(), *aperture))
    assert open_clip(path).frames([2]).shape == (1, 48, 64, 3)


@pytest.mark.parametrize("left", [2, 8, 34])
@pytest.mark.parametrize(("kind", "codec"), [("mkv", "h264"), ("hevc.mp4", "hevc")])
def test_what_a_stream_wants_cut_is_cut_to_the_column(kind, codec, left, tmp_path):
    path = videos.write(tmp_path / "whole.mp4", videos.noise(6), kind)
    whole = open_clip(path).frames(range(6))
    change = f"{codec}_metadata=crop_left={left}:crop_top=4"
    cut = open_clip(videos.rewritten(path, tmp_path / "cut.mkv", change))
    np.testing.assert_array_equal(cut.frames(range(6)), whole[:, 4:, left:])


def test_matroska_s_crop():
    sides = {"54BB": 2, "54AA": 4, "54CC": 6, "54DD": 300}

    def byte_long(name, body):  # as writers of small elements do it
        return bytes.fromhex(name) + bytes([0x80 | len(body)]) + body

    crop = b"".join(byte_long(name, value.to_bytes(2, "big")) for name, value in sides.items())
    track = byte_long("AE", byte_long("83", b"\1") + byte_long("E0", crop))
    head = byte_long("1A45DFA3", byte_long("4282", b"matroska"))
    for segment in (
        byte_long("1654AE6B", track),
        byte_long("EC", b"\0" * 9) + byte_long("1654AE6B", track),
    ):
        data = head + bytes.fromhex("18538067") + b"\x01" + b"\xff" * 7 + segment
        assert container_crop(data, (480, 640)) == Crop(2, 4, 6, 300)
        assert container_crop(data, (480, 300)) == Crop()
        for end in range(len(data)):
            container_crop(data[:end], (480, 640))
