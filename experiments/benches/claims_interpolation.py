"""Redundant-free interpolation (paper section 3.3): what does inheriting cost, what does it save?

Key frames of unseen clips are encoded and three frames put into every gap, with all shares of
`inherit` and rings of `radius` 0, 1 and 2 ids, captions given, most likely ids (as by default).

    PSNR        inserted frames against the clip's own, dB
    shapes-FVD  of the whole clips against 1,024 other real ones
    unlike      share of inserted frames' ids that differ from those at inherit 0
    inherited   share of inserted frames' ids that were copied, and of these the share that the
                clip's own inserted frames do not have there: wrong copies
    ms          sampling a clip's four gaps, one clip at a time: with guesses (drafts) and the
                window that suits the machine (one id for four rows on a CPU core); with a window of
                one id, which is the paper's recurrent decoding; with windows of 8, guesses filling
                them; and without guesses, where known ids are all that does

The paper's setting is inherit 0.2, radius 1. It says that inheriting saves generation; here known
ids are still read by the network, many in one step.

    cost   ten minutes of a CPU core (estimated)
"""

import dataclasses
import hashlib
import statistics
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from fv_jax.files import replacing
from fv_jax.generation.gaps import VideoIds, find_gaps, interleave
from fv_jax.generation.generator import Generator
from fv_jax.generation.interpolation import sample_gaps
from fv_jax.generation.plan import text_ids
from fv_jax.generation.policies import Sampling
from fv_jax.generation.stats import Stats
from fv_jax.metrics.signal_to_noise import psnr_per_frame
from fv_jax.reporting.results import markdown, record
from fv_jax.shapes import scenes
from fv_jax.shapes.distance import RealClips
from fv_jax.shapes.features import FeatureExtractor

_HOME = Path("out/claims/interpolation")
_FIRST = 5_000  # of the test clips that are filled; others are compared with
_MODES = {
    "by default": (0, True), "W = 1": (1, False), "W = 8, guesses": (8, True),
    "W = 8, no guesses": (8, False),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and where to write the result."""

    model: str = "shapes"
    """A shipped model's name, or a model folder."""
    inherit: tuple[float, ...] = (0.0, 0.2, 0.5, 1.0)
    """Shares of the stable ids, 0 among them."""
    radius: tuple[int, ...] = (0, 1, 2)
    """Widths of the unstable ring, in ids."""
    clips: int = 128
    """Unseen clips."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seed of what is inherited; nothing else is random."""
    timed: int = 10
    """Clips that are timed, one at a time."""
    batch_size: int = 16
    """Clips at a time otherwise."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


class _Filler:
    """Puts three frames into every gap of clips, with any radius."""

    def __init__(self, settings: Settings):
        self.generator = Generator.load(settings.model)
        self.gap = self.generator.model.config.key_frame_stride
        weights = jax.tree.leaves(self.generator.model.params)
        whole = b"".join(np.asarray(leaf).tobytes() for leaf in weights)
        self.weights = hashlib.sha256(whole).hexdigest()[:12]

    def __call__(
        self, ids: np.ndarray, texts: np.ndarray, seeds: list[int], share: float, radius: int,
        window: int = 0, guess: bool = True,
    ) -> tuple[list[VideoIds], Stats]:  # fmt: skip
        """Filled clips of key frames `ids` [B, M, h, w]."""
        engine, stats = self.generator.engine, Stats()
        videos = [VideoIds.of_key_frames(grid) for grid in ids]
        gaps = find_gaps(
            videos, level=0, insert=self.gap - 1, inherit=share, seeds=seeds, radius=radius
        )
        assert gaps is not None  # there are several key frames
        sampler = engine.sampler(Sampling(0.0), len(gaps.video), window=window)
        inserted = sample_gaps(
            engine, sampler, gaps, texts, seeds, stats, named=self.gap, drafts=guess
        )
        filled = interleave(videos, gaps, inserted)
        return filled, stats


def run(settings: Settings) -> None:
    """Measure and record. What is made is kept, and taken up by the same command."""
    filler = _Filler(settings)
    clips = [scenes.clip("test", _FIRST + i) for i in range(settings.clips)]
    true = np.stack([scenes.render(clip) for clip in clips])
    ids = np.stack([filler.generator.model.frames.encode(video) for video in true])
    texts = np.stack([text_ids(filler.generator.model, clip.caption) for clip in clips])
    settled = [(s, r) for s in settings.inherit for r in settings.radius if s or r == 1]
    if 0.0 not in settings.inherit or 1 not in settings.radius:
        raise ValueError("inherit must have 0 and radius 1: all is compared with that")
    made = {
        (share, radius): [
            _kept(settings, filler, ids, texts, share, radius, seed)
            for seed in (settings.seeds if share else settings.seeds[:1])
        ]
        for share, radius in tqdm(settled, unit="setting")
    }
    times = _milliseconds(filler, ids, texts, settled, settings.timed)
    real = RealClips(FeatureExtractor.load())
    judge = _Judge(filler, true, real)
    ceiling, floor = judge(ids), real.floor(settings.clips)
    values: dict[str, Any] = {"ceiling": ceiling, "floor": floor}
    rows, plain = [], made[0.0, 1][0]["ids"]
    for (share, radius), filled in made.items():
        psnr_db, fvd = zip(*(judge(part["ids"]) for part in filled))
        copied = np.stack([part["inherited"] for part in filled])
        wrong = (copied & np.stack([part["ids"] != ids for part in filled])).sum()
        unlike = [(part["ids"] != plain)[:, judge.inserted].mean() for part in filled]
        shares = copied[:, :, judge.inserted].mean(), wrong / max(1, copied.sum()), np.mean(unlike)
        key = f"inherit {share:g}, radius {radius if share else 'any'}"
        values[key] = {
            "psnr_db": psnr_db, "shapes_fvd": fvd, "inherited": float(shares[0]),
            "wrong": float(shares[1]), "unlike_inherit_0": float(shares[2]),
            "milliseconds": times[share, radius],
        }  # fmt: skip
        rows.append([
            key, _mean(psnr_db, 2), _mean(fvd, 2), *(f"{x:.2%}" for x in shares),
            *(f"{t:.1f}" for t in times[share, radius].values()),
        ])  # fmt: skip
    header = ["inserted frames", "PSNR, dB", "shapes-FVD", "ids inherited", "of these wrong"]
    header += ["unlike inherit 0", *(f"ms, {name}" for name in _MODES)]
    blank = [""] * (len(header) - 3)
    rows.append(["the true frames' ids", f"{ceiling[0]:.2f}", f"{ceiling[1]:.2f}", *blank])
    rows.append(["other real clips (the floor)", "", _mean(floor, 2), *blank])
    record("claims-interpolation", settings, values, markdown(header, rows))


class _Judge:
    """PSNR of inserted frames, and shapes-FVD of whole clips, of filled ids [N, M, h, w]."""

    def __init__(self, filler: _Filler, true: np.ndarray, real: RealClips):
        self.decode, self.true, self.real = filler.generator.model.frames.decode, true, real
        self.inserted = np.arange(scenes.NUM_FRAMES) % filler.gap != 0
        self._known: dict[bytes, tuple[float, float]] = {}  # many settings give the same ids

    def __call__(self, ids: np.ndarray) -> tuple[float, float]:
        key = ids.tobytes()
        if key not in self._known:
            self._known[key] = self._judge(ids)
        return self._known[key]

    def _judge(self, ids: np.ndarray) -> tuple[float, float]:
        frames = np.stack([self.decode(video) for video in ids])
        quality = psnr_per_frame(self.true[:, self.inserted], frames[:, self.inserted]).mean()
        return float(quality), self.real.distance(frames)


def _kept(settings, filler, ids, texts, share, radius, seed) -> dict[str, np.ndarray]:
    """Filled ids, and which of them were copied."""
    path = _HOME / filler.weights / f"{settings.clips}-{share:g}-{radius}-{seed}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        filled: list[VideoIds] = []
        for start in range(0, len(ids), settings.batch_size):
            part = slice(start, start + settings.batch_size)
            seeds = [seed * 100_000 + start + i for i in range(len(ids[part]))]
            filled += filler(ids[part, :: filler.gap], texts[part], seeds, share, radius)[0]
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file, ids=np.stack([f.ids for f in filled]),
                inherited=np.stack([f.inherited for f in filled]),
            )  # fmt: skip
    with np.load(path) as file:
        return dict(file)


def _milliseconds(filler, ids, texts, settled, count) -> dict[tuple, dict[str, float]]:
    """Medians of sampling one clip, every setting in turn; the first round compiles."""
    taken = {(setting, mode): [] for setting in settled for mode in _MODES}
    for i in tqdm(range(count + 1), desc="timing", unit="round"):
        part = slice(i % len(ids), i % len(ids) + 1)
        for (setting, mode), seconds in taken.items():
            _, stats = filler(ids[part, :: filler.gap], texts[part], [i], *setting, *_MODES[mode])
            seconds.append(stats.summary(1)["seconds"]["sample"])
    median = lambda seconds: statistics.median(seconds[1:]) * 1000
    return {setting: {m: median(taken[setting, m]) for m in _MODES} for setting in settled}


def _mean(values: tuple[float, ...], digits: int) -> str:
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"
