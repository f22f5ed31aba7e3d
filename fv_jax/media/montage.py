"""Pictures of clips: all are frames side by side in strips, with lines of text.

montage          what a clip inherited: below its frames, where the ids of each came from
figure           ours above ground truth, as Fig. 5 of the paper
contact_sheet    three frames of each of many clips, to look a data set through
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from fv_jax.array_types import Frame
from fv_jax.files import replacing
from fv_jax.media.clip import Clip

_KEY, _SAMPLED, _INHERITED = (235, 235, 235), (230, 140, 40), (60, 170, 90)
_GIVEN = (240, 190, 60)
_PAPER, _INK = (24, 24, 28), (230, 230, 230)
_GAP, _TEXT, _LABEL = 3, 14, 40  # px
_MOST_FRAMES = 9  # in a row of `figure`

_CELL = (99, 132)  # px, (Y, X) of a frame on the contact sheet at most
_COLUMNS, _MARGIN, _LINE = 3, 14, 16  # clips side by side; px
_NAME, _CAPTION = (235, 235, 235), (150, 170, 190)

Pair = tuple[str, np.ndarray, np.ndarray]  # text, real, fake: [F, Y, X, 3]


def montage(clips: Sequence[Clip]) -> Frame:
    """One picture of all clips: of each a line of text and two strips.

    Above its frames, key frames in a white border. Below them where the ids came from: white for
    key frames' own, orange for sampled ones, green for inherited ones.
    """
    return _stacked([_clip_rows(clip) for clip in clips])


def figure(pairs: Sequence[Pair], given: int) -> Frame:
    """Ours above ground truth, frames evenly spaced in time; those given have a yellow border."""
    return _stacked([_pair_rows(*pair, given) for pair in pairs])


def contact_sheet(
    clips: Iterable[tuple[str, str, UInt8[np.ndarray, "3 _ _ 3"]]], count: int
) -> Frame:
    """One picture of `count` clips, each a name, a text and three frames; taken one at a time."""
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    width, height = 3 * _CELL[1] + 4, _CELL[0] + 2 * _LINE + 4
    font = ImageFont.load_default(12)
    sheet = _paper(rows * (height + _MARGIN) + _MARGIN, columns * (width + _MARGIN) + _MARGIN)
    for number, (name, text, frames) in enumerate(clips):
        row, column = divmod(number, columns)
        top, left = _MARGIN + row * (height + _MARGIN), _MARGIN + column * (width + _MARGIN)
        at = left
        for small in map(_shrunk, frames):
            _put(sheet, small, top + _CELL[0] - small.shape[0], at)
            at += small.shape[1] + 2
        for line, (words, ink) in enumerate(((name, _NAME), (text, _CAPTION))):
            written = _written(_shortened(words, width, font), width, _LINE, (0, 0), ink, font)
            _put(sheet, written, top + _CELL[0] + 3 + line * _LINE, left)
    return sheet


def save_png(pixels: Frame, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")


def _clip_rows(clip: Clip) -> np.ndarray:
    """The rows of `montage`."""
    keys = clip.key_frame.tolist()
    height, width = clip.frames.shape[1:3]
    origins = [_origin(mask, key, height, width) for mask, key in zip(clip.inherited, keys)]
    strips = np.concatenate(
        [
            np.concatenate([_bordered(p, _KEY if key else _PAPER, 1) for p, key in row], axis=1)
            for row in (zip(clip.frames, keys), zip(origins, keys))
        ]
    )
    share = clip.inherited[~clip.key_frame].mean() if (~clip.key_frame).any() else 0.0
    text = f"{clip.prompt or '(no text)'}   [seed {clip.seed}, {share:.0%} of inserted inherited]"
    return np.concatenate([_written(text, strips.shape[1], _TEXT), strips])


def _origin(mask: np.ndarray, key: bool, height: int, width: int) -> np.ndarray:
    """Where each id came from, as tiles the size of its patch."""
    color = np.where(mask[..., None], _INHERITED, _KEY if key else _SAMPLED).astype(np.uint8)
    rows, columns = mask.shape
    tiles = color.repeat(height // rows, axis=0).repeat(width // columns, axis=1)
    tiles[:: height // rows] = _PAPER
    tiles[:, :: width // columns] = _PAPER
    return tiles


def _pair_rows(text: str, real: np.ndarray, fake: np.ndarray, given: int) -> np.ndarray:
    """The rows of `figure`."""
    numbers = np.unique(np.linspace(0, len(real) - 1, min(_MOST_FRAMES, len(real))).round())
    rows = []
    for label, frames in (("ours", fake), ("real", real)):
        cells = [
            _bordered(frames[n], _GIVEN if n < given else _PAPER)
            for n in numbers.astype(int).tolist()
        ]
        rows.append(np.concatenate([_written(label, _LABEL, cells[0].shape[0]), *cells], axis=1))
    strips = np.concatenate(rows)
    return np.concatenate([_written(text, strips.shape[1], _TEXT), strips])


def _shrunk(frame: np.ndarray) -> np.ndarray:
    """The whole frame as large as its cell allows."""
    height, width = frame.shape[:2]
    scale = min(_CELL[0] / height, _CELL[1] / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))


def _shortened(words: str, width: int, font: Any) -> str:
    """As much of it as fits into one line."""
    if font.getlength(words) <= width:
        return words
    words = words[:200]
    while words and font.getlength(words + "...") > width:
        words = words[:-1]
    return words + "..."


def _paper(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), _PAPER, np.uint8)


def _put(paper: np.ndarray, picture: np.ndarray, top: int, left: int) -> np.ndarray:
    """The paper, with a picture on it."""
    paper[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return paper


def _bordered(frame: np.ndarray, color: tuple[int, int, int], margin: int = 0) -> np.ndarray:
    """A frame with a border, of which `margin` px on the outside are paper."""
    height, width = frame.shape[0] + 2 * _GAP, frame.shape[1] + 2 * _GAP
    border = np.full((height - 2 * margin, width - 2 * margin, 3), color, np.uint8)
    return _put(_put(_paper(height, width), border, margin, margin), frame, _GAP, _GAP)


def _written(
    text: str, width: int, height: int, at: tuple[int, int] | None = None, ink=_INK, font=None
) -> np.ndarray:
    """A line of text, in the middle of the height if no place (x, y) is given."""
    image = Image.new("RGB", (width, height), _PAPER)
    ImageDraw.Draw(image).text(at or (_GAP, (height - _TEXT) // 2 + 1), text, ink, font)
    return np.asarray(image)


def _stacked(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Parts of any widths one below the other."""
    width = max(part.shape[1] for part in parts)
    return np.concatenate(
        [_put(_paper(part.shape[0] + 2 * _GAP, width), part, 0, 0) for part in parts]
    )
