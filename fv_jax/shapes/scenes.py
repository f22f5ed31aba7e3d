"""`shapes`: the procedural text-video set that a fresh clone trains, tests and measures on.

Every clip is a pure function of `(split, index)`: 64x64 pixels, 17 frames at 8 fps, one
anti-aliased object that moves along an axis at constant speed over a static background.

    caption   "a {size} {colour} {shape} moves {direction} over {background}"

Three (colour, shape) pairs never appear in the train, valid and test splits. The `heldout`
split holds nothing else, so it measures composition.

The two patterned backgrounds repeat every 8 px, the tokenizer's patch: a choice (the grammar
leaves the pattern open) that keeps a plain background to a single frame code.
"""

import dataclasses
import zlib

import numpy as np
from jaxtyping import Float, Int

from fv_jax.array_types import Frames
from fv_jax.config.registry import choices, require_known

FRAME_SIZE = 64
NUM_FRAMES = 17
FPS = 8

SIZES = {"small": (6.0, 8.0), "large": (12.0, 14.0)}  # radius range, px
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 200, 60),
    "blue": (50, 80, 230),
    "yellow": (230, 210, 40),
    "purple": (160, 60, 200),
    "cyan": (40, 200, 220),
    "orange": (240, 130, 30),
    "white": (240, 240, 240),
}
SHAPES = ("circle", "square", "triangle")
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}  # (x, y), y down
BACKGROUNDS = ("black", "gray", "stripes", "checks")
HELD_OUT = (("cyan", "triangle"), ("orange", "square"), ("purple", "circle"))
TRAVEL = (16.0, 36.0)  # px over the whole clip
SPLITS = ("train", "valid", "test", "heldout")

# Half width and half height of the bounding box, in radii.
_EXTENT = {"circle": (1.0, 1.0), "square": (0.9, 0.9), "triangle": (1.08, 0.9)}


@dataclasses.dataclass(frozen=True)
class ShapeClip:
    """What a clip shows. Positions are of the bounding box's center, in px, y down.

    A pixel (row i, column j) is centerd at (x, y) = (j + 0.5, i + 0.5).
    """

    size: str
    colour: str
    shape: str
    direction: str
    background: str
    radius: float
    start: tuple[float, float]
    travel: float

    @property
    def caption(self) -> str:
        """The sentence of the grammar that describes this clip."""
        return caption(self.size, self.colour, self.shape, self.direction, self.background)

    def centers(self) -> Float[np.ndarray, "F 2"]:
        """(x, y) of the bounding box's center in every frame."""
        share = np.arange(NUM_FRAMES) / (NUM_FRAMES - 1)
        step = np.asarray(DIRECTIONS[self.direction], float) * self.travel
        return np.asarray(self.start) + share[:, None] * step


def caption(size: str, colour: str, shape: str, direction: str, background: str) -> str:
    """The sentence for five attribute words."""
    return f"a {size} {colour} {shape} moves {direction} over {background}"


def all_captions(held_out: bool | None = None) -> list[str]:
    """Every caption of the grammar (768), or only those of held-out / trained pairs."""
    return [
        caption(size, colour, shape, direction, background)
        for size in SIZES
        for colour in COLOURS
        for shape in SHAPES
        for direction in DIRECTIONS
        for background in BACKGROUNDS
        if held_out is None or ((colour, shape) in HELD_OUT) == held_out
    ]


def clip(split: str, index: int) -> ShapeClip:
    """The clip `(split, index)`, drawn from a generator that nothing else uses.

    Raises:
        ValueError: an unknown split or a negative index.
    """
    require_known("split", split, SPLITS)
    if index < 0:
        raise ValueError(f"clip index must be >= 0, got {index}")
    rng = np.random.Generator(np.random.Philox(key=[zlib.crc32(split.encode()), index]))
    pairs = [
        (colour, shape)
        for colour in COLOURS
        for shape in SHAPES
        if ((colour, shape) in HELD_OUT) == (split == "heldout")
    ]
    colour, shape = pairs[rng.integers(len(pairs))]
    size = list(SIZES)[rng.integers(len(SIZES))]
    direction = list(DIRECTIONS)[rng.integers(len(DIRECTIONS))]
    background = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    radius = rng.uniform(*SIZES[size])
    half = np.asarray(_EXTENT[shape]) * radius
    room = FRAME_SIZE - 2 * half  # how far the center may travel along x and y
    sign = np.asarray(DIRECTIONS[direction], float)
    axis = int(np.argmax(np.abs(sign)))
    travel = min(rng.uniform(*TRAVEL), room[axis])
    span = room - np.abs(sign) * travel  # freedom of the lower end of the path
    low = half + rng.uniform(size=2) * span
    start = np.where(sign < 0, low + travel, low)
    return ShapeClip(
        size,
        colour,
        shape,
        direction,
        background,
        float(radius),
        (float(start[0]), float(start[1])),
        float(travel),
    )


def render(spec: ShapeClip, frames: Int[np.ndarray, " F"] | None = None) -> Frames:
    """Pixels of the chosen frames (0-based; all 17 by default)."""
    centers = spec.centers()
    centers = centers if frames is None else centers[np.asarray(frames)]
    grid = np.arange(FRAME_SIZE, dtype=np.float32) + 0.5
    dx = grid[None, None, :] - centers[:, 0, None, None].astype(np.float32)
    dy = grid[None, :, None] - centers[:, 1, None, None].astype(np.float32)
    distance = _signed_distance(spec.shape, dx, dy, spec.radius)
    # A pixel is one unit wide, so an edge that passes d from its center covers 1/2 - d of it.
    coverage = np.clip(0.5 - distance, 0.0, 1.0)[..., None]
    colour = np.asarray(COLOURS[spec.colour], np.float32)
    pixels = background(spec.background) * (1 - coverage) + colour * coverage
    return np.round(pixels).astype(np.uint8)


def _signed_distance(shape: str, dx: np.ndarray, dy: np.ndarray, radius: float) -> np.ndarray:
    """Distance to the outline, negative inside, px. Broadcasts to [F, Y, X]."""
    if shape == "circle":
        return np.sqrt(dx**2 + dy**2) - radius
    if shape == "square":
        return np.maximum(np.abs(dx), np.abs(dy)) - 0.9 * radius
    # Upright: apex (0, -0.9 r), base from (-1.08 r, 0.9 r) to (1.08 r, 0.9 r).
    normal = np.asarray([1.8, -1.08]) / np.hypot(1.8, 1.08)
    side = np.abs(dx) * normal[0] + (dy + 0.9 * radius) * normal[1]
    return np.maximum(side, dy - 0.9 * radius)


def background(name: str) -> Float[np.ndarray, "Y X 3"]:
    """The static background, float32 levels 0..72."""
    cell = np.arange(FRAME_SIZE) // 4 % 2
    if name == "black":
        mask, dark, light = np.zeros((FRAME_SIZE, FRAME_SIZE)), (0, 0, 0), (0, 0, 0)
    elif name == "gray":
        mask, dark, light = np.zeros((FRAME_SIZE, FRAME_SIZE)), (60, 60, 60), (60, 60, 60)
    elif name == "stripes":
        mask, dark, light = np.tile(cell, (FRAME_SIZE, 1)), (12, 16, 28), (52, 58, 72)
    elif name == "checks":
        mask, dark, light = cell[:, None] ^ cell[None, :], (16, 24, 18), (56, 70, 60)
    else:
        raise ValueError(f"background: no {name!r}; {choices(name, BACKGROUNDS)}")
    return np.where(mask[..., None] == 1, light, dark).astype(np.float32)
