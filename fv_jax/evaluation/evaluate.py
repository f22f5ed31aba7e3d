"""Scoring two sets of clips by a protocol, one clip at a time.

    pairs     every real clip with each of its fakes: PSNR, SSIM, LPIPS
    sets      features of all real pieces, and of all fakes: FVD

Whatever has been computed for a clip of these pixels before is not computed again.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from fv_jax.evaluation.clip_sets import ClipFile, pieces, scored
from fv_jax.evaluation.feature_cache import FeatureCache, clip_hash, joint_hash
from fv_jax.evaluation.protocols import Protocol
from fv_jax.metrics.interface import Metric, Missing, PairMetric, SetMetric
from fv_jax.metrics.videos import Checker, NamedClip

_DELAY = 1.0  # seconds until a bar is seen
_BATCH = 8  # clips, or pairs of them, that each device computes at a time


@dataclasses.dataclass(frozen=True)
class Sets:
    """What is compared.

    Attributes:
        real: clips, whole.
        runs: of every repeat the fakes of each real clip; in a run without pairs one list of all.
        paired: whether fakes belong to real clips.
        generated: whether the fakes' given frames are to be replaced by the real ones.
    """

    real: Sequence[ClipFile]
    runs: Sequence[Sequence[Sequence[ClipFile]]]
    paired: bool = True
    generated: bool = False


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two sets, how they are compared, and what a result says of them.

    Attributes:
        sets: the clips.
        protocol: how they are compared.
        texts: what each real clip shows, for people.
        fps: frames per second at which clips play.
        about: where the sets come from, as JSON.
    """

    sets: Sets
    protocol: Protocol
    texts: Sequence[str]
    fps: float
    about: dict[str, Any]


def evaluate(
    sets: Sets, protocol: Protocol, metrics: Mapping[str, Metric | Missing], caches: Path
) -> dict[str, Any]:
    """All numbers, with what they are of.

    Args:
        sets: the clips.
        protocol: how they are compared.
        metrics: what is computed, or why not, by name.
        caches: folder for numbers that need not be computed again.

    Returns:
        JSON values: `metrics`, `counts`, `hashes` and `warnings`.

    Raises:
        ValueError: a clip that is unfit; names it, and says what it has and should have.
    """
    with contextlib.ExitStack() as open_files:
        return _Evaluation(sets, protocol, metrics, caches, open_files)()


@contextlib.contextmanager
def progress(desc: str, total: int, initial: int = 0) -> Iterator[tqdm]:
    """A bar for work that takes more than a moment; what fails at once says only why."""
    with tqdm(desc=desc, total=total, initial=initial, unit="clip", delay=_DELAY) as bar:
        shown = threading.Timer(_DELAY, bar.refresh)  # though not one clip may be done by then
        shown.daemon = True
        shown.start()
        try:
            yield bar
        finally:
            shown.cancel()
            shown.join()


class _Evaluation:
    def __init__(
        self, sets: Sets, protocol: Protocol, metrics: Mapping[str, Metric | Missing],
        caches: Path, open_files: contextlib.ExitStack,
    ):  # fmt: skip
        self.sets, self.protocol = sets, protocol
        open_cache: Callable = lambda what, width: open_files.enter_context(
            contextlib.closing(FeatureCache(caches, what, width))
        )
        self.pairs = {n: m for n, m in metrics.items() if isinstance(m, PairMetric)}
        self.scores = {n: _Kept(m, open_cache(m.fingerprint, 1)) for n, m in self.pairs.items()}
        self.distances = {n: m for n, m in metrics.items() if isinstance(m, SetMetric)}
        self.features = {
            n: _Kept(m.features, open_cache(m.fingerprint, m.width))
            for n, m in self.distances.items()
        }
        sizes = [(m.least_size, m.label) for m in self.pairs.values()]
        least, wants_most = max(sizes, default=(1, ""))
        self.check = Checker(least_size=least, purpose=wants_most)
        self.check_length = [
            Checker(least_frames=m.least_frames, purpose=m.label) for m in self.distances.values()
        ]
        self.reasons = {n: m.reason for n, m in metrics.items() if isinstance(m, Missing)}

    def __call__(self) -> dict[str, Any]:
        real_features, real_hash, real_count = self._real()
        pairs: dict[str, list[np.ndarray]] = {name: [] for name in self.pairs}
        distances: dict[str, list[float]] = {name: [] for name in self.distances}
        hashes, fake_count = [], 0
        for number, run in enumerate(self.sets.runs):
            title = "scores" if len(self.sets.runs) == 1 else f"scores, run {number + 1}"
            scores, features, fake_hash, fake_count = self._run(run, title)
            for name, values in scores.items():
                pairs[name].append(values)
            for name, values in features.items():
                if min(len(values), len(real_features[name])) < 2:
                    self.reasons[name] = "needs at least two clips on each side"
                else:
                    distances[name].append(
                        float(self.distances[name].distance(real_features[name], values))
                    )
            hashes.append(fake_hash.hex())
        metrics = {name: _summary([float(v.mean()) for v in runs]) for name, runs in pairs.items()}
        for name, runs in pairs.items():
            metrics[name]["clips_deviation"] = float(np.concatenate(runs).std())
        metrics |= {name: _summary(runs) for name, runs in distances.items() if runs}
        metrics |= {name: {"value": None, "reason": why} for name, why in self.reasons.items()}
        assert self.check.first is not None  # there is a clip
        length, height, width, _ = self.check.first[1]
        counts = {
            "real": len(self.sets.real), "real_pieces": real_count, "fake": fake_count,
            "runs": len(self.sets.runs), "frames": length, "height": height, "width": width,
        }  # fmt: skip
        return {
            "metrics": metrics,
            "counts": counts,
            "hashes": {"real": real_hash.hex(), "fake": hashes},
            "warnings": self._warnings(real_count, fake_count),
        }

    def _real(self) -> tuple[dict[str, np.ndarray], bytes, int]:
        """Features of the real pieces, the hash of all, and how many."""
        hashes: list[bytes] = []
        with progress("real clips", len(self.sets.real)) as bar:
            for clip in self.sets.real:
                for piece in map(self._in_fvd, self._pieces(clip)):
                    hashes.append(clip_hash(piece))
                    self._collect(piece, hashes[-1], clip.name)
                bar.update()
        features = {name: kept.take(hashes) for name, kept in self.features.items()}
        return features, joint_hash(*hashes), len(hashes)

    def _pieces(self, clip: ClipFile) -> list[np.ndarray]:
        p = self.protocol
        if p.windows == p.crops == 1:
            return [self._scored(clip)]
        try:
            parts = pieces(clip.read(), p)
        except ValueError as error:
            raise ValueError(f"{clip.name}: {error}") from error
        return [self.check(NamedClip(clip.name, part)).frames for part in parts]

    def _run(self, run: Sequence[Sequence[ClipFile]], title: str):
        hashes: list[bytes] = []
        pairs: list[list[bytes]] = []  # of every real clip with those fakes that count
        total = sum(map(len, run))
        with progress(title, total) as bar:
            for index, fakes in enumerate(run):
                real = self._scored(self.sets.real[index]) if self.sets.paired else None
                if real is not None:
                    pairs.append([])
                for trial, clip in enumerate(fakes):
                    fake = self._scored(clip)
                    if real is not None:
                        if self.sets.generated:  # whoever gives frames has them
                            fake = fake.copy()
                            fake[: self.protocol.given_frames] = real[: self.protocol.given_frames]
                        if trial < self.protocol.best_of:
                            pairs[-1].append(self._compare(real, fake, clip.name))
                    hashes.append(clip_hash(self._in_fvd(fake)))
                    self._collect(self._in_fvd(fake), hashes[-1], clip.name)
                    bar.update()
        scores = {}
        for name, kept in self.scores.items():
            best = np.max if self.pairs[name].higher_is_better else np.min
            scores[name] = np.asarray([best(kept.take(keys)) for keys in pairs])
        features = {name: kept.take(hashes) for name, kept in self.features.items()}
        return scores, features, joint_hash(*hashes), len(hashes)

    def _compare(self, real: np.ndarray, fake: np.ndarray, name: str) -> bytes:
        """Have a pair scored; gives what its scores are found by."""
        first = self.protocol.first_scored
        if first >= len(real):
            raise ValueError(f"{name}: got {len(real)} frames, want more than {first}, all given")
        real, fake = real[first:], fake[first:]
        key = joint_hash(clip_hash(real), clip_hash(fake)) if self.scores else b""
        for kept in self.scores.values():
            kept.add(key, real, fake)
        return key

    def _collect(self, frames: np.ndarray, key: bytes, name: str) -> None:
        for check in self.check_length:
            check(NamedClip(name, frames))
        for kept in self.features.values():
            kept.add(key, frames)

    def _in_fvd(self, frames: np.ndarray) -> np.ndarray:
        return frames if self.protocol.given_in_fvd else frames[self.protocol.given_frames :]

    def _scored(self, clip: ClipFile) -> np.ndarray:
        frames, first = scored(clip, self.protocol), self.check.first
        if first and first[1] != frames.shape and frames.ndim == 4:
            got, want = (f"{s[0]} frames of {s[2]}x{s[1]} px" for s in (frames.shape, first[1]))
            raise ValueError(
                f"{clip.name}: got {got}, want {want} as {first[0]} has; --frames N compares the "
                "first N frames, --size N scales all to NxN px"
            )
        return self.check(NamedClip(clip.name, frames)).frames

    def _warnings(self, real: int, fake: int) -> list[str]:
        """Where the numbers are of fewer clips than they should be."""
        have, want = len(self.sets.real), self.protocol.real_count
        few = [f"{have} of the protocol's {want} clips"] if have < want else []
        biased = [
            f"{metric.label} of {real} real and {fake} fake clips: up to {metric.width} "
            "leave its covariances singular and the number biased upwards; it falls as they grow "
            "more"
            for metric in self.distances.values()
            if min(real, fake) <= metric.width  # n vectors about their mean have rank n - 1
        ]
        every = (*self.pairs.values(), *self.distances.values())
        cautions = [c for metric in every for c in (metric.record or {}).get("cautions", [])]
        return few + biased + cautions


class _Kept:
    """Numbers of clips, or of pairs of clips, computed some at a time, each once."""

    def __init__(self, numbers: Callable[..., np.ndarray], cache: FeatureCache):
        self._numbers, self._cache = numbers, cache
        self._waiting: dict[bytes, tuple[np.ndarray, ...]] = {}
        self._most = _BATCH * jax.local_device_count()

    def add(self, key: bytes, *clips: np.ndarray) -> None:
        """A clip, or the two of a pair, whose numbers will be taken."""
        if key not in self._cache:
            self._waiting[key] = clips
            if len(self._waiting) == self._most:
                self._compute()

    def take(self, keys: Sequence[bytes]) -> Float[np.ndarray, "N C"]:
        """The numbers of these, in this order."""
        self._compute()
        if not keys:
            return np.zeros((0, self._cache.width))
        return np.stack([self._cache[key] for key in keys])

    def _compute(self) -> None:
        if self._waiting:
            found = self._numbers(*(np.stack(clips) for clips in zip(*self._waiting.values())))
            for key, values in zip(self._waiting, found.reshape(len(self._waiting), -1)):
                self._cache[key] = values
            self._waiting.clear()


def _summary(runs: list[float]) -> dict[str, Any]:
    """Mean over the repeats, and their deviation where there are several."""
    deviation = float(np.std(runs, ddof=1)) if len(runs) > 1 else None
    return {"value": float(np.mean(runs)), "deviation": deviation, "runs": runs}
