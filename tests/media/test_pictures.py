"""Pictures and animations as clips: each mode beside what a viewer shows."""

import struct
import zlib

import numpy as np
import pytest
import videos
from PIL import Image, ImageCms, PngImagePlugin

from fv_jax.media import open_clip
from fv_jax.media.pictures import Animation, Pictures, is_animated
from fv_jax.media.readers import ClipError

RAMP = np.linspace(0, 255, 64).round().astype(np.uint8)[None].repeat(48, 0)
GRAY = RAMP[..., None].repeat(3, -1)


def palette_with_alpha():
    """Index 0 is green and transparent, 1 red."""
    picture = Image.fromarray((np.arange(64)[None].repeat(48, 0) >= 32).astype(np.uint8), "P")
    picture.putpalette([0, 255, 0, 255, 0, 0])
    return picture


def halves(left, right):
    return np.concatenate([np.full((48, 32, 3), side, np.uint8) for side in (left, right)], 1)


def wide(bits):
    return (RAMP.astype(np.uint32) * 257).astype(bits)


FADED = np.stack([np.zeros_like(RAMP), RAMP], -1)  # black, from transparent to opaque
MODES = {
    "gray": (Image.fromarray(RAMP), "png", {}, GRAY, 0),
    "one bit": (Image.fromarray(RAMP > 127), "png", {}, halves(0, 255), 0),
    "16 bits": (Image.fromarray(wide(np.uint16)), "png", {}, GRAY, 0),
    "16 bits of tiff": (Image.fromarray(wide(np.uint16)), "tif", {}, GRAY, 0),
    "16 bits, big end": (Image.fromarray(wide(">u2")), "tif", {}, GRAY, 0),
    "16 bits, one of them transparent": (
        Image.fromarray(wide(np.uint16)), "png", {"transparency": 257 * int(RAMP[0, 20])},
        np.where(GRAY == RAMP[0, 20], 255, GRAY), 0,
    ),
    "gray with alpha": (Image.fromarray(FADED, "LA"), "png", {}, 255 - GRAY, 0),
    "color with alpha": (
        Image.fromarray(np.concatenate([np.zeros_like(GRAY), RAMP[..., None]], -1)), "webp",
        {"lossless": True, "exact": True}, 255 - GRAY, 0,
    ),
    "palette with alpha": (
        palette_with_alpha(), "png", {"transparency": 0}, halves(255, (255, 0, 0)), 0,
    ),
    "palette with alphas": (
        palette_with_alpha(), "png", {"transparency": b"\x00\x80"},
        halves(255, (255, 127, 127)), 0,
    ),
    "a color that is transparent": (
        Image.fromarray(halves((0, 255, 0), (9, 9, 9))), "png", {"transparency": (0, 255, 0)},
        halves(255, (9, 9, 9)), 0,
    ),
    "CMYK": (Image.fromarray(GRAY).convert("CMYK"), "jpg", {"quality": 100}, GRAY, 4),
    "CMYK of tiff": (Image.fromarray(GRAY).convert("CMYK"), "tif", {}, GRAY, 1),
    "YCbCr": (Image.fromarray(GRAY).convert("YCbCr"), "tif", {}, GRAY, 2),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_is_shown_as_viewers_do(mode, tmp_path):
    picture, suffix, options, want, slack = MODES[mode]
    for i in range(2):
        picture.save(tmp_path / f"{i}.{suffix}", **options)
    shown = open_clip(tmp_path).frames([1])[0]
    assert np.abs(shown.astype(int) - want).max() <= slack


def png_with_clear_code(bits, color, row, clear):
    """One row of pixels, and the code of those that are transparent (PNG, section 11.3)."""

    def chunk(name, data):
        sum_of = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", sum_of)

    width = len(row) * 8 // bits // (3 if color else 1)
    head = struct.pack(">IIBBBBB", width, 1, bits, 2 if color else 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" + row)
    chunks = {b"IHDR": head, b"tRNS": clear, b"IDAT": pixels, b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in chunks.items())


@pytest.mark.parametrize(
    ("bits", "color", "row", "clear", "want"),
    [
        (1, False, b"\x55", b"\0\0", [255] * 8),
        (2, False, b"\x1b", b"\0\1", [0, 255, 170, 255]),
        (4, False, b"\x01\x23", b"\0\2", [0, 17, 255, 51]),
        (8, False, b"\x01\x02", b"\0\2", [1, 255]),
        (16, True, b"\x12\x34" * 3 + b"\x34\x34" * 3, b"\x12\x34" * 3, [255, 52]),
    ],
)
def test_the_code_of_a_png_that_is_transparent(bits, color, row, clear, want, tmp_path):
    (tmp_path / "a.png").write_bytes(png_with_clear_code(bits, color, row, clear))
    reader = open_clip(tmp_path / "a.png", least=1)
    assert reader.frames([0])[0, 0, :, 0].tolist() == want
    assert reader.notes == ["transparent pixels are shown on white"]


def gray_tiff(path, data, bits, photometric):
    """Rows of one channel, packed, as Pillow does not write them; TIFF 6.0, section 4."""
    tags = {256: 64, 257: 48, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 48,
            279: len(data)}  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    end = struct.pack("<H", len(tags)) + entries + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + end)


def packed_12_bits():
    high, low = np.moveaxis((RAMP.astype(np.uint32) * 4095 // 255).reshape(-1, 2), 1, 0)
    return np.stack([high >> 4, (high & 15) << 4 | low >> 8, low & 255], -1).astype(np.uint8)


@pytest.mark.parametrize(
    ("data", "bits", "photometric", "want"),
    [
        (wide("<u2"), 16, 1, GRAY),
        (wide("<u2"), 16, 0, 255 - GRAY),  # 0 is white
        (RAMP, 8, 0, 255 - GRAY),
        (packed_12_bits(), 12, 1, GRAY),
    ],
)
def test_what_a_tiff_says_of_its_numbers_counts(data, bits, photometric, want, tmp_path):
    gray_tiff(tmp_path / "a.tif", data.tobytes(), bits, photometric)
    shown = Pictures([tmp_path / "a.tif"], 25, least=1).frames([0])[0]
    assert np.abs(shown.astype(int) - want).max() <= 1


def profile(space="sRGB", changed=False):
    """A profile; sRGB's with another name, and its first two primaries the other way round."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()
    swaps = [(b"rXYZ", b"wXYZ"), (b"gXYZ", b"rXYZ"), (b"wXYZ", b"gXYZ"), (b"\0s\0R", b"\0x\0R")]
    for old, new in swaps if changed else ():
        data = data.replace(old, new)
    return data


@pytest.mark.parametrize(
    ("icc", "want", "note"),
    [
        (profile(), (200, 30, 30), None),
        (profile(changed=True), (30, 200, 30), "shown as sRGB's"),
        (profile("XYZ"), (200, 30, 30), "left out"),
        (b"no profile", (200, 30, 30), "left out"),
    ],
)
@pytest.mark.parametrize("kind", ["RGB png", "RGBA png", "P png", "RGB jpg", "RGB tif", "RGB webp"])
def test_a_color_profile_s_colors_are_shown_as_srgb_s(icc, want, note, kind, tmp_path):
    mode, suffix = kind.split()
    picture = Image.new("RGBA", (32, 32), (200, 30, 30, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 32, 8))
    options = {"lossless": True} if suffix == "webp" else {}
    picture.convert(mode).save(tmp_path / f"a.{suffix}", icc_profile=icc, **options)
    reader = Pictures([tmp_path / f"a.{suffix}"], 25, least=1)
    shown = reader.frames([0])[0]
    assert np.abs(shown[24, 16].astype(int) - want).max() <= 3
    assert shown[2, 2].tolist() == [255] * 3 or mode != "RGBA"
    told = [line for line in reader.notes if "profile" in line]
    assert [note in line for line in told] == [True] * (note is not None)


@pytest.mark.parametrize(
    ("values", "words"),
    [(RAMP.astype(np.float32) / 255, "floats"), (RAMP.astype(np.int32), "32-bit numbers")],
)
def test_a_picture_whose_white_is_not_known_is_refused(values, words, tmp_path):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(ClipError, match=rf"a\.tif holds {words}, whose white is not known"):
        Pictures([tmp_path / "a.tif"], 25, least=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_a_picture(orientation, tmp_path):
    corners = np.zeros((20, 30, 3), np.uint8)
    corners[:10, :15], corners[10:, 15:] = (255, 0, 0), (0, 0, 255)
    picture = Image.fromarray(corners)
    exif = picture.getexif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.png", exif=exif)
    shown = Pictures([tmp_path / "a.png"], 25, least=1).frames([0])[0]
    # EXIF 2.32, 4.6.4: which side of the picture the first row and the first column are.
    places = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1),
              8: (-1, 0)}  # fmt: skip
    assert shown.shape[:2] == ((20, 30) if orientation < 5 else (30, 20))
    assert shown[places[orientation]].tolist() == [255, 0, 0]


def animation(path, count=6, **options):
    frames = [Image.fromarray(frame) for frame in videos.noise(count, (24, 32))]
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    return path


@pytest.mark.parametrize(
    ("suffix", "options", "times"),
    [
        ("png", {"duration": 100}, np.arange(6) / 10),
        ("apng", {"duration": [40, 120, 40, 40, 500, 40], "format": "PNG"},
         [0, 0.04, 0.16, 0.2, 0.24, 0.74]),
        ("png", {"duration": 16.5}, np.arange(6) * 0.0165),
        ("png", {"duration": 0}, np.arange(6) / 10),  # as browsers show it
        ("webp", {"duration": 50, "lossless": True}, np.arange(6) / 20),
        ("webp", {"duration": [50, 100, 50, 50, 50, 50], "lossless": True},
         [0, 0.05, 0.15, 0.2, 0.25, 0.3]),
        ("tif", {}, np.arange(6) / 25),
    ],
)  # fmt: skip
def test_an_animation_is_a_clip(suffix, options, times, tmp_path):
    reader = open_clip(animation(tmp_path / f"a.{suffix}", **options))
    assert isinstance(reader, Animation)
    np.testing.assert_allclose(reader.times, times, atol=1e-3)
    frames = reader.frames(range(6))
    np.testing.assert_array_equal(frames, videos.noise(6, (24, 32)))
    np.testing.assert_array_equal(reader.frames([5, 0, 3, 3]), frames[[5, 0, 3, 3]])


def test_a_still_picture_is_none(tmp_path):
    picture = Image.fromarray(videos.noise(1, (24, 32))[0])
    for suffix in ("png", "webp", "tif", "jpg", "bmp"):
        picture.save(tmp_path / f"a.{suffix}")
        assert not is_animated(tmp_path / f"a.{suffix}")
    assert not is_animated(animation(tmp_path / "one.png", count=1))
    small = picture.resize((8, 6))  # a page that is a thumbnail of the other
    picture.save(tmp_path / "pages.tif", save_all=True, append_images=[small])
    assert not is_animated(tmp_path / "pages.tif")
    with pytest.raises(ClipError, match="at least 2 frames, got 1"):
        open_clip(tmp_path / "pages.tif")


def test_pages_that_are_cut_off_are_noticed(tmp_path):
    data = animation(tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: len(data) // 2])
    assert is_animated(tmp_path / "a.tif")
    with pytest.raises(ClipError, match=r"a\.tif is no readable picture"):
        open_clip(tmp_path / "a.tif")


def test_the_picture_for_viewers_that_cannot_play_is_not_of_the_animation(tmp_path):
    frames = [Image.fromarray(frame) for frame in videos.noise(4, (24, 32))]
    Image.new("RGB", (32, 24)).save(
        tmp_path / "a.png", save_all=True, append_images=frames, default_image=True, duration=40
    )
    reader = open_clip(tmp_path / "a.png")
    np.testing.assert_array_equal(reader.frames(range(4)), videos.noise(4, (24, 32)))


def test_transparent_frames_of_an_animation_are_shown_on_white(tmp_path):
    frames = []
    for i in range(4):
        frame = np.zeros((24, 32, 4), np.uint8)
        frame[..., 1] = 255
        frame[4:20, 4 * i : 4 * i + 8] = (255, 0, 0, 255)
        frames.append(Image.fromarray(frame))
    for name, options in (("a.png", {}), ("a.webp", {"lossless": True}), ("a.gif", {})):
        frames[0].save(
            tmp_path / name, save_all=True, append_images=frames[1:], duration=100, disposal=2,
            **options,
        )  # fmt: skip
        reader = open_clip(tmp_path / name)
        shown = reader.frames([2])[0]
        assert shown[0, 0].tolist() == [255, 255, 255], name
        assert shown[10, 10].tolist() == [255, 0, 0], name
        assert shown[10, 2].tolist() == [255, 255, 255], name  # where it was before
        assert reader.notes == ["transparent pixels are shown on white"]


@pytest.mark.parametrize("blend", [0, 1], ids=["source", "over"])
def test_frames_of_an_animation_that_are_to_vanish_do(blend, tmp_path):
    frames = [np.zeros((48, 64, 4), np.uint8) for _ in range(4)]
    for i, frame in enumerate(frames):
        frame[:, 16 * i : 16 * i + 16] = 0, 0, 0, 255
    first, *more = map(Image.fromarray, frames)
    back = PngImagePlugin.Disposal.OP_PREVIOUS
    first.save(tmp_path / "a.png", save_all=True, append_images=more, disposal=back, blend=blend)
    reader = open_clip(tmp_path / "a.png")
    np.testing.assert_array_equal(reader.frames(range(4))[:, 0, 8::16, 0], 255 - 255 * np.eye(4))
    np.testing.assert_array_equal(reader.frames([3]), reader.frames(range(4))[3:])
