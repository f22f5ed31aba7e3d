"""Pictures as clips: folders of them, and files that hold several (APNG, WebP, TIFF).

A picture is shown as a viewer would: turned as its EXIF data say, its color profile's colors as
sRGB's, what is transparent over white, 16 bits scaled to 8. Floats and other numbers without a
known white are refused.
"""

import functools
import io
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from fv_jax.array_types import Frame, Frames
from fv_jax.media.display import over_background
from fv_jax.media.readers import MOST_PIXELS, ClipError, checked, gathered, px

PICTURE_SUFFIXES = (".png", ".apng", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".avif")
_ANIMATED = ("PNG", "WEBP", "TIFF", "AVIF", "GIF")  # not MPO: a phone's picture with a depth map
# Browsers show a frame that is to last 10 ms or less for 100.
_SHORTEST, _DEFAULT = 0.011, 0.1  # s
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF


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
        self.notes: list[str] = []
        if len(paths) < least:
            raise ClipError(f"a clip needs at least {least} frames, got {len(paths)}")
        self.times = np.arange(len(paths)) / fps
        self.size = self._picture(0).shape[:2]

    def each(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Pixels of the chosen frames, one by one."""
        before, pixels = -1, None
        for index in checked(indices, len(self.paths)):
            if index != before or pixels is None:
                before, pixels = index, self._picture(index)
            if pixels.shape[:2] != self.size:
                name, got, want = self.paths[index].name, px(pixels.shape), px(self.size)
                raise ClipError(f"{name} has {got}, the first picture {want}")
            yield pixels

    def frames(self, indices: Sequence[int]) -> Frames:
        """Pixels of the chosen frames."""
        return gathered(self, indices)

    def _picture(self, index: int) -> np.ndarray:
        with _opened(self.paths[index]) as picture:
            return shown(picture, self.paths[index].name, self.notes)


class Animation:
    """A file of several pictures: APNG, WebP, AVIF, or TIFF with pages of one size.

    Args:
        path: of the file.
        page_fps: frames per second of pages, which do not say how long they last.
        least: frames that a clip must have.

    Raises:
        ClipError: too few pictures, or an unreadable one.
    """

    def __init__(self, path: Path, page_fps: float, *, least: int = 2):
        self.path = path
        self.notes: list[str] = []
        with _animation(path) as picture, _reading(path.name):
            # An APNG may hold a picture for viewers that cannot play it.
            self._first = int(bool(getattr(picture, "default_image", False)))
            count = getattr(picture, "n_frames", 1) - self._first
            if count < least:
                raise ClipError(f"a clip needs at least {least} frames, got {count}")
            paged = picture.format == "TIFF"
            lasts = [1 / page_fps if paged else self._lasts(picture, i) for i in range(count)]
            picture.seek(self._first)
            self.size = shown(picture, path.name, self.notes).shape[:2]
        self.times = np.cumsum([0.0, *lasts[:-1]])

    def _lasts(self, picture: Image.Image, index: int) -> float:
        """Seconds of a frame; `seek` reads its header, `load` in WebP the length, too."""
        picture.seek(self._first + index)
        if picture.format in ("WEBP", "AVIF"):
            picture.load()
        seconds = float(picture.info.get("duration") or 0) / 1000
        return seconds if seconds >= _SHORTEST else _DEFAULT

    def each(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Pixels of the chosen frames, one by one."""
        before, pixels = -1, None
        wanted = checked(indices, len(self.times))
        with _animation(self.path) as picture:
            for index in wanted:
                if index != before or pixels is None:
                    with _reading(self.path.name):
                        picture.seek(self._first + index)
                    before, pixels = index, shown(picture, self.path.name, self.notes)
                if pixels.shape[:2] != self.size:
                    got, want = px(pixels.shape), px(self.size)
                    raise ClipError(f"frame {index} has {got}, the first {want}")
                yield pixels

    def frames(self, indices: Sequence[int]) -> Frames:
        """Pixels of the chosen frames."""
        return gathered(self, indices)


def is_animated(path: Path) -> bool:
    """Whether a picture's file holds several of one size; False if it cannot be read.

    The heads of PNG and WebP say it; of the others TIFF and AVIF are opened.
    """
    suffix = path.suffix.lower()
    try:
        with path.open("rb") as file:
            head = file.read(33)
            if head.startswith(b"\x89PNG"):
                return _has_frames(file)
            if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
                return head[12:16] == b"VP8X" and bool(head[20] & 2)
        if suffix not in (".tif", ".tiff", ".avif"):
            return False
        with Image.open(path) as picture:
            return picture.format in _ANIMATED and _alike(picture)
    except Exception:  # damaged files raise nearly anything; reading them says what is wrong
        return False


def shown(picture: Image.Image, name: str, notes: list[str]) -> Frame:
    """A picture's pixels as a viewer shows them.

    Raises:
        ClipError: damaged, too large, or of values whose white is not known.
    """
    if picture.width * picture.height > MOST_PIXELS:
        raise ClipError(f"{name} claims {picture.width}x{picture.height} px")
    with _reading(name):
        packed = picture.tile[0].args if picture.tile else ""
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        _scale_clear_code(upright, packed)
        mode = upright.mode
        if mode in ("F", "I", "LAB"):
            kind = {"F": "floats", "I": "32-bit numbers", "LAB": "Lab colors"}[mode]
            raise ClipError(f"{name} holds {kind}, whose white is not known; save 8 or 16 bits")
        if mode.startswith("I;16"):
            _tell(notes, "16 bits are scaled to 8")
            upright = _of_16_bits(upright, picture)
        upright = _in_srgb(upright, notes)
        if upright.mode == "CMYK":
            _tell(notes, "CMYK is shown without a color profile")
        if mode in ("La", "RGBa") or upright.has_transparency_data:
            mixed = over_background(np.asarray(_straight(upright)))
            if mixed is not None:
                _tell(notes, "transparent pixels are shown on white")
                return mixed
        return np.asarray(upright.convert("RGB"))


def _scale_clear_code(picture: Image.Image, packed: object) -> None:
    """To 8 bits, as Pillow does with a PNG's pixels, but not with the code that is transparent."""
    clear = picture.info.get("transparency")
    if packed in ("L;2", "L;4") and isinstance(clear, int):
        picture.info["transparency"] = clear * (85 if packed == "L;2" else 17)
    elif packed == "RGB;16B" and isinstance(clear, tuple):
        picture.info["transparency"] = tuple(code >> 8 for code in clear)


def _of_16_bits(gray: Image.Image, picture: Image.Image) -> Image.Image:
    """Scaled to 8, as what `picture`'s file says of its numbers: Pillow does so for fewer bits."""
    tags = getattr(picture, "tag_v2", {})  # of TIFF
    (bits,) = tags.get(_BITS, (16,))
    white = (1 << bits) - 1
    codes = np.asarray(gray).astype(np.uint32)
    scaled = ((codes * 255 + white // 2) // white).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        scaled = 255 - scaled
    clear = picture.info.get("transparency")
    if clear is None:
        return Image.fromarray(scaled)
    alpha = np.where(codes == clear, 0, 255).astype(np.uint8)
    return Image.fromarray(np.stack([scaled, alpha], -1))


def _in_srgb(picture: Image.Image, notes: list[str]) -> Image.Image:
    """By the color profile that the file holds, if it holds one that is not sRGB's own."""
    data = picture.info.get("icc_profile")
    if not data:
        return picture
    if picture.mode in ("P", "PA"):
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        if "sRGB" in ImageCms.getProfileDescription(profile):
            return picture
        mode = "RGBA" if picture.mode == "RGBA" else "RGB"
        made = ImageCms.profileToProfile(picture, profile, _srgb(), outputMode=mode)
    except (ImageCms.PyCMSError, OSError):
        _tell(notes, "the color profile is not one of such pictures: left out")
        return picture
    _tell(notes, "the color profile's colors are shown as sRGB's")
    return made or picture


@functools.cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _straight(picture: Image.Image) -> Image.Image:
    """With an alpha channel that colors are not yet multiplied by."""
    if picture.mode == "La":
        picture = picture.convert("LA")
    return picture.convert("RGBA")


def _tell(notes: list[str], note: str) -> None:
    if note not in notes:
        notes.append(note)


def _has_frames(file) -> bool:
    """Whether a PNG's animation chunk comes before its pixels."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"acTL":
            return int.from_bytes(file.read(4), "big") > 1
        if kind == b"IDAT":
            return False
        file.seek(length + 4, 1)
    return False


def _alike(picture: Image.Image) -> bool:
    """Whether there are several pages of one size; others are a picture and its thumbnail."""
    size = picture.size
    try:
        count = getattr(picture, "n_frames", 1)
        for page in range(count if picture.format == "TIFF" else 0):
            picture.seek(page)
            if picture.size != size:
                return False
    except Exception:  # a first page, and others that are cut off: reading them says so
        return True
    return count > 1


class _AnimatedPng(PngImagePlugin.PngImageFile):
    """Pillow's, but where what was there before a frame shall come back, it does.

    Pillow paints a frame that is blended into the very copy that it keeps of that.
    """

    def load_end(self) -> None:
        vanishes = self.dispose_op == PngImagePlugin.Disposal.OP_PREVIOUS
        before = self._prev_im.copy() if vanishes and self._prev_im else None
        super().load_end()
        self._prev_im = before or self._prev_im


class _reading:
    """Damaged pictures raise nearly anything in Pillow: one reason for all."""

    def __init__(self, name: str):
        self._name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind, error, traceback) -> None:
        if isinstance(error, Image.DecompressionBombError):
            most = f"{MOST_PIXELS / 1e6:.0f} million"
            raise ClipError(f"{self._name} claims more pixels than can be ({most})") from error
        if isinstance(error, Exception) and not isinstance(error, ClipError):
            raise ClipError(f"{self._name} is no readable picture") from error


def _opened(path: Path) -> Image.Image:
    with _reading(path.name):
        return Image.open(path)


def _animation(path: Path) -> Image.Image:
    picture = _opened(path)
    if picture.format != "PNG":
        return picture
    picture.close()
    with _reading(path.name):
        return _AnimatedPng(path)
