"""Which ids may be inherited: the paper's ring against a learned predictor (paper section 3.3).

Of ids that two key frames A and B share, most are the same in the frame between them. The ring
takes those that no different id is near to. The predictor is a logistic regression for each id on
its 3x3 neighborhood in A and B (which are equal, which lie outside, FSQ levels of both where ids
have such, and how far these lie apart) and on the gap; it ranks ids by how likely they change, and
is trained on other clips than it is judged by.

    inherited    share of all ids of the frame in the middle of the gap
    wrong        share of these whose true id is another
    predictor    share that it inherits with at most as many wrong, and at most 0.5% wrong

    cost   2 minutes on two CPU cores
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from fv_jax.data.sources.base import open_source
from fv_jax.generation.skip_mask import HARMLESS, regions
from fv_jax.media.frames import Window, read
from fv_jax.reporting.results import markdown, record
from fv_jax.tokenizers.fsq import FSQTokenizer
from fv_jax.tokenizers.load import load_tokenizer
from fv_jax.tokenizers.quantizer import FSQ

_RADII = (0, 1, 2)
_BATCH = 8192


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to compare on, and where to write the result."""

    tokenizer: str = "shapes"
    """A tokenizer's file or folder, or a shipped model's name."""
    train: str = "shapes,split=train,count=1500"
    """Clips that the predictor learns from."""
    test: str = "shapes,split=test,count=300"
    """Clips that both are judged by; "" judges by each clip of `train`, learning from the rest."""
    fps: float = 0.0
    """Frames per second that are read; 0 for each clip's own."""
    size: int = 64
    """Side of the square frames, px."""
    gaps: tuple[int, ...] = (2, 4, 8, 16)
    """Frames from A to B."""
    pairs: int = 4
    """Pairs of key frames of each clip and gap, at random."""
    variant: str = ""
    """Added to the name of the page."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Ids of two key frames and of the frame in the middle, [N, h, w], and frames between, [N]."""

    a: np.ndarray
    b: np.ndarray
    middle: np.ndarray
    gap: np.ndarray

    @classmethod
    def of(cls, clips: Sequence[np.ndarray], gaps: Sequence[int], count: int) -> "Pairs":
        """`count` of every clip and gap that fits, the same at every call."""
        rng, rows = np.random.default_rng(0), []
        for ids in clips:
            for gap in gaps:
                for _ in range(count if len(ids) > gap else 0):
                    first = int(rng.integers(len(ids) - gap))
                    rows.append((ids[first], ids[first + gap], ids[first + gap // 2], gap))
        return cls(*(np.asarray(column) for column in zip(*rows)))

    @property
    def wrong(self) -> np.ndarray:
        """Which of A's ids are not those of the middle."""
        return self.middle != self.a


def run(settings: Settings) -> None:
    """Train, compare and record.

    Raises:
        ValueError: no clip is as long as the shortest gap.
    """
    tokenizer = load_tokenizer(settings.tokenizer)
    levels = tokenizer.config.levels if isinstance(tokenizer, FSQTokenizer) else ()
    train = _ids(tokenizer, settings.train, settings)
    test = _ids(tokenizer, settings.test, settings) if settings.test else []
    folds = [(train, test)] if test else [
        ([*train[:i], *train[i + 1 :]], [train[i]]) for i in range(len(train))
    ]  # fmt: skip
    scored = [_scores(*fold, levels, settings) for fold in folds]
    pairs = Pairs(*(np.concatenate([getattr(p, f.name) for p, _ in scored])
                    for f in dataclasses.fields(Pairs)))  # fmt: skip
    rows = compare(pairs, np.concatenate([chance for _, chance in scored]))
    values = {"gaps": rows, "clips": {"train": len(train), "test": len(test) or len(train)}}
    header = list(rows[0])
    percent = lambda name, x: str(x) if name == "gap" else f"{100 * x:.2f}%"
    table = markdown(header, [[percent(name, row[name]) for name in header] for row in rows])
    record("skip-predictor", settings, values, table, settings.variant)


def compare(pairs: Pairs, chance: np.ndarray) -> list[dict[str, float]]:
    """A row for every gap.

    Args:
        pairs: to judge by.
        chance: of an id to change, [N, h, w], or anything that ranks as it does.
    """
    rows = []
    for gap in sorted(set(pairs.gap.tolist())):
        these = pairs.gap == gap
        a, b, wrong = pairs.a[these], pairs.b[these], pairs.wrong[these]
        same = a == b
        ranked = wrong[same][np.argsort(chance[these][same], kind="stable")]
        row: dict[str, float] = {"gap": gap}
        for radius in _RADII:
            stable = np.stack([regions(x, y, radius).stable for x, y in zip(a, b)])
            error = float(wrong[stable].mean()) if stable.any() else 0.0
            row[f"ring {radius}: inherited"] = float(stable.mean())
            row[f"ring {radius}: wrong"] = error
            row[f"predictor, as many wrong as ring {radius}"] = _reaches(ranked, error) / same.size
        row[f"predictor, {HARMLESS:.1%} wrong"] = _reaches(ranked, HARMLESS) / same.size
        rows.append(row)
    return rows


def _reaches(wrong: np.ndarray, limit: float) -> int:
    """How many of ranked ids can be copied with at most a part of `limit` of the copies wrong."""
    errors = np.cumsum(wrong) / np.arange(1, len(wrong) + 1)
    return int((np.flatnonzero(errors <= limit) + 1).max(initial=0))


def features(pairs: Pairs, levels: tuple[int, ...], gaps: Sequence[int]) -> np.ndarray:
    """What the predictor sees of each id, [N, h, w, features] float32."""
    other = (pairs.a != pairs.b)[..., None].astype(np.float32)
    code = lambda ids: (
        np.asarray(FSQ(levels).codes(jnp.asarray(ids))) if levels else np.zeros((*ids.shape, 0))
    )
    a, b = (_around(code(ids).astype(np.float32)) for ids in (pairs.a, pairs.b))
    near = _around(other)
    gap = (pairs.gap[:, None] == np.asarray(gaps)).astype(np.float32)[:, None, None]
    gap = np.broadcast_to(gap, (*pairs.a.shape, len(gaps)))
    outside = 1 - _around(np.ones_like(other))
    crowd = near.mean(-1, keepdims=True)
    return np.concatenate([near, outside, a, b, np.abs(a - b), gap, gap * crowd], axis=-1)


def fit(x: np.ndarray, y: np.ndarray, steps: int = 2000) -> np.ndarray:
    """Weights of a logistic regression, and its bias last, [features + 1] float32."""
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, steps))
    rows, labels = jnp.asarray(x), jnp.asarray(y, jnp.float32)

    def loss(w, picked):
        z = rows[picked] @ w[:-1] + w[-1]
        cross_entropy = optax.sigmoid_binary_cross_entropy(z, labels[picked]).mean()
        return cross_entropy + 1e-5 * (w**2).sum()

    def step(carry, key):
        w, state = carry
        gradient = jax.grad(loss)(w, jax.random.randint(key, (_BATCH,), 0, len(rows)))
        update, state = optimizer.update(gradient, state)
        return (optax.apply_updates(w, update), state), None

    w = jnp.zeros(x.shape[1] + 1)
    keys = jax.random.split(jax.random.key(0), steps)
    (w, _), _ = jax.jit(lambda *start: jax.lax.scan(step, start, keys))(w, optimizer.init(w))
    return np.asarray(w)


def _scores(train, test, levels, settings: Settings) -> tuple[Pairs, np.ndarray]:
    """Pairs of `test`, and for each id a number that ranks how likely it changes."""
    learned = Pairs.of(train, settings.gaps, settings.pairs)
    same = learned.a == learned.b
    w = fit(features(learned, levels, settings.gaps)[same], learned.wrong[same])
    judged = Pairs.of(test, settings.gaps, settings.pairs)
    return judged, features(judged, levels, settings.gaps) @ w[:-1] + w[-1]


def _ids(tokenizer, source: str, settings: Settings) -> list[np.ndarray]:
    """Ids of every clip that is long enough."""
    clips = []
    for entry in tqdm(open_source(source), desc=f"reading {source}", unit="clip"):
        frames = read(entry.open(), Window(settings.fps, settings.size))
        if len(frames) > min(settings.gaps):
            clips.append(tokenizer.encode_clips([frames])[0])
    if not clips:
        raise ValueError(f"no clip of {source} has more than {min(settings.gaps)} frames")
    return clips


def _around(x: np.ndarray) -> np.ndarray:
    """[N, h, w, C] of each place and its eight neighbors, [N, h, w, 9 C]; 0 outside."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return windows.reshape(*x.shape[:3], -1)
