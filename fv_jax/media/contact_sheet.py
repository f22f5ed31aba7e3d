"""A contact sheet: the first, middle and last frame of each clip, its name and its text below."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

_CELL = (132, 99)  # px, (X, Y) of a frame at most
_COLUMNS, _GAP, _LINE = 3, 14, 16  # clips side by side; px
_PAPER, _NAME, _TEXT = (24, 24, 28), (235, 235, 235), (150, 170, 190)


def contact_sheet(
    clips: Iterable[tuple[str, str, UInt8[np.ndarray, "n _ _ 3"]]], count: int
) -> UInt8[np.ndarray, "Y X 3"]:
    """One picture of `count` clips, each a name, a text and three frames; taken one at a time."""
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    width, height = 3 * _CELL[0] + 4, _CELL[1] + 2 * _LINE + 4
    size = (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, (name, text, frames) in enumerate(clips):
        row, column = divmod(number, columns)
        left, top = _GAP + column * (width + _GAP), _GAP + row * (height + _GAP)
        x = left
        for frame in frames:
            small = _fitted(frame)
            sheet.paste(small, (x, top + _CELL[1] - small.height))
            x += small.width + 2
        for line, (words, colour) in enumerate(((name, _NAME), (text, _TEXT))):
            place = (left, top + _CELL[1] + 3 + line * _LINE)
            draw.text(place, _shortened(words, width, font), colour, font)
    return np.asarray(sheet)


def _fitted(frame: UInt8[np.ndarray, "Y X 3"]) -> Image.Image:
    """The whole frame as large as its place allows."""
    image = Image.fromarray(frame)
    scale = min(_CELL[0] / image.width, _CELL[1] / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _shortened(words: str, width: int, font) -> str:
    """As much of it as fits into one line."""
    if font.getlength(words) <= width:
        return words
    words = words[:200]
    while words and font.getlength(words + "...") > width:
        words = words[:-1]
    return words + "..."
