"""Does a video show what its `shapes` caption says? Classical vision on the pixels, no judge.

Backgrounds have every channel <= 72 and objects a channel >= 200, so a threshold finds the
object; the largest connected region is measured. Over a clip the median counts:

    colour      nearest of the eight to the mean inside the region
    shape       area / bounding box: triangle 0.5, circle 0.8, square 1.0
    size        radius that the area means for that shape: small <= 8, large >= 12 px
    direction   axis and sign of the way from the first to the last centroid
"""

import dataclasses

import numpy as np
import scipy.ndimage
from jaxtyping import Float

from fv_jax.array_types import Frames
from fv_jax.shapes import scenes

_THRESHOLD = 136  # of the brightest channel: half-way between 72 and 200
# Rendered clips have fills of 0.50..0.60, 0.73..0.85 and 0.92..1; the limits lie between, on the
# side that lets a tokenizer round a small shape's corners off.
_FILL_LIMITS = (0.70, 0.86)
_SIZE_LIMIT = 10.0  # px, half-way between small and large radii
_AREA_OF_UNIT_RADIUS = {"circle": np.pi, "square": 3.24, "triangle": 1.944}
_LEAST_TRAVEL = 8.0  # px: half of the shortest way in the grammar


@dataclasses.dataclass(frozen=True)
class Reading:
    """What the pixels of a clip show; a word is "" where nothing could be measured.

    Attributes:
        centroids: (x, y) px per frame; NaN where a frame shows no object.
        stray: share of bright pixels outside the largest region, over the clip.
    """

    size: str
    colour: str
    shape: str
    direction: str
    centroids: Float[np.ndarray, "F 2"]
    stray: float


def read(frames: Frames) -> Reading:
    """Measure a clip."""
    objects = [_largest_region(frame) for frame in frames]
    centroids = np.asarray([_centroid(region) for region, _ in objects])
    seen = [i for i, (region, _) in enumerate(objects) if region.any()]
    stray = float(np.mean([share for _, share in objects]))
    if not seen:
        return Reading("", "", "", "", centroids, stray)
    areas = np.asarray([objects[i][0].sum() for i in seen], float)
    boxes = np.asarray([_box_area(objects[i][0]) for i in seen], float)
    fill = float(np.median(areas / boxes))
    shape = ("triangle", "circle", "square")[int(np.searchsorted(_FILL_LIMITS, fill))]
    radius = float(np.sqrt(np.median(areas) / _AREA_OF_UNIT_RADIUS[shape]))
    size = "small" if radius < _SIZE_LIMIT else "large"
    colours = np.asarray([frames[i][objects[i][0]].mean(0) for i in seen])
    colour = _nearest_colour(np.median(colours, axis=0))
    whole = len(seen) == len(frames)
    direction = _direction(centroids[-1] - centroids[0]) if whole else ""
    return Reading(size, colour, shape, direction, centroids, stray)


def agreement(reading: Reading, caption: str) -> dict[str, bool]:
    """Which of the four attributes the caption and the pixels agree on, and `all`."""
    words = caption.split()
    expected = dict(size=words[1], colour=words[2], shape=words[3], direction=words[5])
    right = {name: getattr(reading, name) == word for name, word in expected.items()}
    return right | {"all": all(right.values())}


def off_line(centroids: Float[np.ndarray, "F 2"], key_frame: np.ndarray) -> tuple[float, float]:
    """Mean distance (px) from uniform straight motion, of key frames and of inserted frames.

    The motion is the least-squares line, position over time, through the key frames' centroids.
    """
    time = np.arange(len(centroids))
    design = np.stack([np.ones_like(time), time], axis=1).astype(float)
    line, *_ = np.linalg.lstsq(design[key_frame], centroids[key_frame], rcond=None)
    distance = np.linalg.norm(centroids - design @ line, axis=1)
    inserted = distance[~key_frame].mean() if (~key_frame).any() else float("nan")
    return float(distance[key_frame].mean()), float(inserted)


def _largest_region(frame: np.ndarray) -> tuple[np.ndarray, float]:
    bright = frame.max(-1) > _THRESHOLD
    labels = np.asarray(scipy.ndimage.label(bright)[0])  # type: ignore[index]
    sizes = np.bincount(labels.ravel())[1:]
    if not len(sizes):
        return bright, 0.0
    return labels == 1 + int(np.argmax(sizes)), 1 - sizes.max() / sizes.sum()


def _centroid(region: np.ndarray) -> tuple[float, float]:
    if not region.any():
        return float("nan"), float("nan")
    rows, columns = np.nonzero(region)
    return float(columns.mean() + 0.5), float(rows.mean() + 0.5)


def _box_area(region: np.ndarray) -> int:
    rows, columns = np.nonzero(region)
    return int((np.ptp(rows) + 1) * (np.ptp(columns) + 1))


def _nearest_colour(colour: np.ndarray) -> str:
    names = list(scenes.COLOURS)
    distances = [np.linalg.norm(colour - np.asarray(scenes.COLOURS[name])) for name in names]
    return names[int(np.argmin(distances))]


def _direction(way: np.ndarray) -> str:
    along = {name: float(np.dot(way, vector)) for name, vector in scenes.DIRECTIONS.items()}
    best = max(along, key=along.__getitem__)
    return best if along[best] >= _LEAST_TRAVEL else ""
