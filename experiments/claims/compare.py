"""One comparison from the first training to the table; taken up by the same command."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.claims.runs import Trained, Variant, is_trained, trained
from experiments.claims.scores import score, spread, videos
from fv_jax.files import write_text
from fv_jax.reporting.results import markdown, record
from fv_jax.shapes.distance import RealClips
from fv_jax.shapes.features import WEIGHTS, FeatureExtractor


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Settings that the claims have in common. Their fields are what `fv bench` takes."""

    budget: str = "small"
    """Network, data and steps: `small` for CPU cores, `shipped` for a GPU."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One training of every variant for each."""
    videos: int = 128
    """That every trained network makes."""
    only_train: bool = False
    """Train what is not trained, and stop there."""
    only_score: bool = False
    """Score what is trained, and say what is not."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


COLUMNS = (  # of `generated`
    "loss", "all", "size", "colour", "shape", "direction", "order of key frames",
    "order within gaps", "shapes-FVD",
)  # fmt: skip

Scores = Callable[[Trained], dict[str, Any]]
Judge = Callable[[Any], Scores]  # of the settings


def compare(
    name: str, settings: Any, variants: Sequence[tuple[str, Variant]], judge: Judge,
    columns: Sequence[str], note: Callable[[], str] = str,
) -> None:  # fmt: skip
    """Train, score and record.

    Seeds come first, so that a part of the runs already compares all variants.
    """
    results: dict[str, dict[int, dict[str, Any]]] = {label: {} for label, _ in variants}
    missing = []
    scores = (lambda run: {}) if settings.only_train else judge(settings)
    for seed in settings.seeds:
        for label, variant in variants:
            if settings.only_score and not is_trained(variant, seed, settings.budget):
                missing.append(f"{label}, seed {seed}")
                continue
            run = trained(variant, seed, settings.budget)
            if not settings.only_train:
                results[label][seed] = scores(run)
    if settings.only_train:
        return
    first = next(iter(results.values()))
    rows = [
        [f"{label} ({len(found)})", *(_cell(found, c) for c in columns), _apart(found, first)]
        for label, found in results.items()
    ]
    table = markdown(["variant (seeds)", *columns, "loss minus the first's, by seed"], rows)
    if missing:
        table += f"\nNot trained yet: {'; '.join(missing)}.\n"
    values = {"results": results, "missing": missing}
    below = note()
    record(f"claims-{name}", settings, values, table + (f"\n{below}\n" if below else ""))


def generated(settings: Comparison) -> Scores:
    """Loss, adherence, order and shapes-FVD."""
    real = functools.cache(lambda: RealClips(FeatureExtractor.load()))  # not if all is known

    def scores(run: Trained) -> dict[str, Any]:
        clips = videos(run.task.generator(run.params), settings.videos)
        return {**losses(run), **score(clips, real())}

    return kept("scores", {"videos": settings.videos, "features": _features_hash()}, scores)


def floor(settings: Comparison) -> str:
    """What to say of shapes-FVD below a table."""
    values = RealClips(FeatureExtractor.load()).floor(settings.videos)
    return (
        f"shapes-FVD's floor, {settings.videos} other real clips against the same: "
        f"{spread(values)} ({len(values)} sets)."
    )


def losses(run: Trained) -> dict[str, Any]:
    """On unseen clips; parameters and hours of the training."""
    return {
        **run.task.validate(run.params),
        "parameters": run.record["parameters"],
        "training": run.record["source"],
    }


def kept(name: str, asked: dict[str, Any], scores: Scores) -> Scores:
    """Scores that are kept beside the run: the next call takes them from there.

    Args:
        name: of the file.
        asked: what they depend on beside the run.
        scores: as they are computed.
    """

    def found_or_computed(run: Trained) -> dict[str, Any]:
        path = run.folder / f"{name}.json"
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            if before["asked"] == asked:
                return before["found"]
        found = scores(run)
        write_text(path, json.dumps({"asked": asked, "found": found}, indent=1) + "\n")
        return found

    return found_or_computed


def _features_hash() -> str:
    return hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()


def _cell(found: dict[int, dict[str, Any]], column: str) -> str:
    if not found:
        return "not run"
    values = [scores[column] for scores in found.values() if column in scores]
    if values and all(value == values[0] and isinstance(value, int) for value in values):
        return f"{values[0]:,}"
    return spread(values) if values else ""


def _apart(found: dict[int, dict[str, Any]], first: dict[int, dict[str, Any]]) -> str:
    """Runs of one seed have seen the same clips: their difference varies less than either."""
    both = [found[seed]["loss"] - first[seed]["loss"] for seed in found if seed in first]
    return spread(both) if both and found is not first else ""
