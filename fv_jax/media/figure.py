"""Clips to look at: the paper's Fig. 5 as a picture, and pairs that a browser plays."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from fv_jax.media.writers import write_gif, write_mp4

_PAPER, _INK, _GIVEN = (24, 24, 28), (230, 230, 230), (240, 190, 60)
_GAP, _TEXT, _LABEL = 3, 14, 40  # px
_MOST_FRAMES = 9  # of a row

Pair = tuple[str, np.ndarray, np.ndarray]  # text, real, fake: [T, Y, X, 3]


def figure(pairs: Sequence[Pair], given: int) -> UInt8[np.ndarray, "Y X 3"]:
    """Ours above ground truth, frames evenly spaced in time; those given have a yellow border."""
    parts = [_rows(*pair, given) for pair in pairs]
    width = max(part.shape[1] for part in parts)
    padded = []
    for part in parts:
        out = np.full((part.shape[0] + 2 * _GAP, width, 3), _PAPER, np.uint8)
        out[: part.shape[0], : part.shape[1]] = part
        padded.append(out)
    return np.concatenate(padded)


def _rows(text: str, real: np.ndarray, fake: np.ndarray, given: int) -> np.ndarray:
    numbers = np.unique(np.linspace(0, len(real) - 1, min(_MOST_FRAMES, len(real))).round())
    rows = []
    for label, frames in (("ours", fake), ("real", real)):
        cells = [_bordered(frames[n], n < given) for n in numbers.astype(int).tolist()]
        rows.append(np.concatenate([_written(label, _LABEL, cells[0].shape[0]), *cells], axis=1))
    strips = np.concatenate(rows)
    return np.concatenate([_written(text, strips.shape[1], _TEXT), strips])


def _bordered(frame: np.ndarray, given: bool) -> np.ndarray:
    shape = (frame.shape[0] + 2 * _GAP, frame.shape[1] + 2 * _GAP, 3)
    out = np.full(shape, _GIVEN if given else _PAPER, np.uint8)
    out[_GAP:-_GAP, _GAP:-_GAP] = frame
    return out


def _written(text: str, width: int, height: int) -> np.ndarray:
    image = Image.new("RGB", (width, height), _PAPER)
    ImageDraw.Draw(image).text((_GAP, (height - _TEXT) // 2 + 1), text, fill=_INK)
    return np.asarray(image)


def write_playable(frames: UInt8[np.ndarray, "T Y X 3"], fps: float, stem: Path) -> Path:
    """An .mp4, or where a side is odd, which H.264 cannot have, a .gif."""
    if frames.shape[1] % 2 or frames.shape[2] % 2:
        path = stem.with_suffix(".gif")
        write_gif(frames, fps, path)
    else:
        path = stem.with_suffix(".mp4")
        write_mp4(frames, fps, path)
    return path
