"""What does a shapes-FVD mean?

**Noise floor**: real clips against 1,024 other ones, for several numbers of clips. A difference
between two models that is smaller than the floor's spread says nothing.

**Known damage**: other real clips that were damaged, against the same 1,024, so that every row has
the floor in it. Some damage must be seen (blur, frames in another order, a wrong speed, colours
that no clip has); some cannot be: clips run backwards and other colours of the palette make other
real clips, and the measure compares sets.

Beside it: how well the network reads what it was trained to read, on unseen clips.

    cost   106 s of CPU time
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import scipy.ndimage
from tqdm import tqdm

from fv_jax.generation.pretrained import load
from fv_jax.reporting.results import markdown, record
from fv_jax.shapes import scenes
from fv_jax.shapes.distance import RealClips
from fv_jax.shapes.features import WEIGHTS, FeatureExtractor

_FIRST = 100_000  # of the clips that no other part of the project uses
_LAST = scenes.NUM_FRAMES - 1

Damage = Callable[[scenes.ShapeClip, np.random.Generator], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and where to write the result."""

    features: Path = WEIGHTS
    """Weights of the feature network."""
    counts: tuple[int, ...] = (64, 128, 256, 512)
    """Clips of a set of the floor."""
    damaged: int = 256
    """Clips of a damaged set."""
    repeats: int = 3
    """Sets of either; no clip is in two of a kind."""
    model: str = "shapes"
    """Whose tokenizer the clips go through."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


def run(settings: Settings) -> None:
    """Measure and record."""
    extractor = FeatureExtractor.load(settings.features)
    real = RealClips(extractor)
    floor = {n: real.floor(n, settings.repeats) for n in tqdm(settings.counts, desc="floor")}
    damage = _all_damage(settings, real)
    rows = [[str(count), *_spread(values)] for count, values in floor.items()]
    base = float(np.mean(damage["none"]))
    table = (
        "Noise floor: real clips against 1,024 other ones\n\n"
        + markdown(["clips", "shapes-FVD, mean", "spread", "most"], rows)
        + f"\nDamaged real clips against the same, {settings.damaged} in each set:\n\n"
        + markdown(
            ["damage", "shapes-FVD, mean", "spread", "times the floor"],
            [[n, *_spread(v)[:2], f"{np.mean(v) / base:.1f}"] for n, v in damage.items()],
        )
    )
    values = {"floor": floor, "damage": damage, "features": settings.features.name}
    record("shapes-fvd", settings, values, table)


def _all_damage(settings: Settings, real: RealClips) -> dict[str, list[float]]:
    tokenizer = load(settings.model).frames
    through = lambda clip, rng: tokenizer.decode(tokenizer.encode(scenes.render(clip)))
    kinds: dict[str, Damage] = {"none": lambda clip, rng: scenes.render(clip), **_KINDS}
    kinds["through the tokenizer and back"] = through
    found = {}
    for name, make in tqdm(kinds.items(), unit="damage"):
        found[name] = []
        for repeat in range(settings.repeats):
            rng = np.random.default_rng(repeat)
            numbers = range(repeat * settings.damaged, (repeat + 1) * settings.damaged)
            clips = [make(scenes.clip("test", _FIRST + i), rng) for i in numbers]
            found[name].append(real.distance(np.stack(clips)))
    return found


def _blur(sigma: float) -> Damage:
    def make(clip, rng):
        frames = scenes.render(clip).astype(np.float32)
        blurred = scipy.ndimage.gaussian_filter(frames, (0, sigma, sigma, 0))
        return np.round(blurred).astype(np.uint8)

    return make


def _noise(sigma: float) -> Damage:
    def make(clip, rng):
        frames = scenes.render(clip) + rng.normal(0, sigma, (len(clip.centers()), 64, 64, 3))
        return np.clip(np.round(frames), 0, 255).astype(np.uint8)

    return make


def _order(frames: Callable[[np.random.Generator], np.ndarray]) -> Damage:
    return lambda clip, rng: scenes.render(clip, frames(rng))


def _speed(factor: float) -> Damage:
    """The whole way times `factor`, around its middle; the object may leave the frame."""

    def make(clip, rng):
        way = np.asarray(scenes.DIRECTIONS[clip.direction], float) * clip.travel
        start = np.asarray(clip.start) + way * (1 - factor) / 2
        changed = dataclasses.replace(
            clip, start=(float(start[0]), float(start[1])), travel=clip.travel * factor
        )
        return scenes.render(changed)

    return make


def _other_palette_colour(clip, rng) -> np.ndarray:
    names = [name for name in scenes.COLOURS if (name, clip.shape) not in scenes.HELD_OUT]
    return scenes.render(dataclasses.replace(clip, colour=str(rng.choice(names))))


def _two_neighbors(rng: np.random.Generator) -> np.ndarray:
    order, at = np.arange(_LAST + 1), int(rng.integers(_LAST))
    order[[at, at + 1]] = order[[at + 1, at]]
    return order


_KINDS: dict[str, Damage] = {
    **{f"blur, sigma {s:g} px": _blur(s) for s in (0.5, 1.0, 2.0, 4.0)},
    **{f"noise, sigma {s:g} of 255": _noise(s) for s in (2, 10, 30)},
    "two neighboring frames swapped": _order(_two_neighbors),
    "all frames shuffled": _order(lambda rng: rng.permutation(_LAST + 1)),
    "one frame for all": _order(lambda rng: np.full(_LAST + 1, int(rng.integers(_LAST + 1)))),
    "every second frame twice (jerky)": _order(lambda rng: np.arange(_LAST + 1) // 2 * 2),
    "speed x 0.25": _speed(0.25),
    "speed x 0.5": _speed(0.5),
    "speed x 0.8": _speed(0.8),
    "speed x 1.5": _speed(1.5),
    "negative": lambda clip, rng: 255 - scenes.render(clip),
    "colours at 80%": lambda clip, rng: (scenes.render(clip) * 0.8).astype(np.uint8),
    "backwards (should not show)": _order(lambda rng: np.arange(_LAST + 1)[::-1]),
    "another trained colour (should not show)": _other_palette_colour,
}


def _spread(values: Sequence[float]) -> list[str]:
    deviation = np.std(values, ddof=1) if len(values) > 1 else float("nan")
    return [f"{np.mean(values):.3f}", f"{deviation:.3f}", f"{max(values):.3f}"]
