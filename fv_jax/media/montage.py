"""Pictures of clips: a montage that shows frames in order, and what each of them inherited.

For every clip two strips. Above: its frames, key frames in a white border. Below: where the ids
came from: white for key frames' own ids, orange for sampled ones, green for inherited ones.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from fv_jax.files import replacing
from fv_jax.media.clip import Clip

_KEY, _SAMPLED, _INHERITED = (235, 235, 235), (230, 140, 40), (60, 170, 90)
_PAPER, _INK = (24, 24, 28), (230, 230, 230)
_GAP, _TEXT = 3, 14  # px


def montage(clips: Sequence[Clip]) -> UInt8[np.ndarray, "Y X 3"]:
    """One picture of all clips, a caption line and two strips each."""
    parts = [_clip_rows(clip) for clip in clips]
    width = max(part.shape[1] for part in parts)
    padded = [_pad(part, part.shape[0] + 2 * _GAP, width) for part in parts]
    return np.concatenate(padded)


def save_png(pixels: UInt8[np.ndarray, "Y X 3"], path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")


def _clip_rows(clip: Clip) -> np.ndarray:
    keys = clip.key_frame.tolist()
    frames = [_bordered(f, key) for f, key in zip(clip.frames, keys)]
    height, width = clip.frames.shape[1:3]
    origins = [
        _bordered(_origin(mask, key, height, width), key) for mask, key in zip(clip.inherited, keys)
    ]
    strips = np.concatenate([np.concatenate(frames, axis=1), np.concatenate(origins, axis=1)])
    share = clip.inherited[~clip.key_frame].mean() if (~clip.key_frame).any() else 0.0
    text = f"{clip.prompt or '(no text)'}   [seed {clip.seed}, {share:.0%} of inserted inherited]"
    return np.concatenate([_caption(text, strips.shape[1]), strips])


def _origin(mask: np.ndarray, key: bool, height: int, width: int) -> np.ndarray:
    """Where each id came from, as tiles the size of its patch."""
    colour = np.where(mask[..., None], _INHERITED, _KEY if key else _SAMPLED).astype(np.uint8)
    rows, columns = mask.shape
    tiles = colour.repeat(height // rows, axis=0).repeat(width // columns, axis=1)
    tiles[:: height // rows] = _PAPER
    tiles[:, :: width // columns] = _PAPER
    return tiles


def _bordered(frame: np.ndarray, key: bool) -> np.ndarray:
    out = np.full((frame.shape[0] + 2 * _GAP, frame.shape[1] + 2 * _GAP, 3), _PAPER, np.uint8)
    if key:
        out[1:-1, 1:-1] = _KEY
    out[_GAP:-_GAP, _GAP:-_GAP] = frame
    return out


def _caption(text: str, width: int) -> np.ndarray:
    image = Image.new("RGB", (width, _TEXT), _PAPER)
    ImageDraw.Draw(image).text((_GAP, 1), text, fill=_INK)
    return np.asarray(image)


def _pad(part: np.ndarray, height: int, width: int) -> np.ndarray:
    out = np.full((height, width, 3), _PAPER, np.uint8)
    out[: part.shape[0], : part.shape[1]] = part
    return out
