"""From `fv generate` to the finished file: seconds, in a fresh process each time.

The first run may compile; the ones after it find the compiled sampler in JAX's persistent
cache, which is what a user sees from the second video on: their median, and their mean, as the
paper reports speed (of three trials).

    cost   29 s of CPU time
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fv_jax.reporting.results import markdown, record


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to run, and where to write the result."""

    model: str = "shapes"
    """A shipped model's name, or a model folder."""
    repeats: int = 3
    """Runs with a warm cache, after one with a cold one."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


def run(settings: Settings) -> None:
    """Time the command and record it."""
    with tempfile.TemporaryDirectory() as folder:
        cold, cold_stages = _generate(settings.model, Path(folder))
        warm = [_generate(settings.model, Path(folder)) for _ in range(settings.repeats)]
    totals = [total for total, _ in warm]
    middles = statistics.median, statistics.fmean
    medians, means = (
        {k: middle([s.get(k, 0.0) for _, s in warm]) for k in cold_stages} for middle in middles
    )
    rows = [["whole process", *(f"{s:.1f}" for s in (cold, *(f(totals) for f in middles)))]]
    rows += [
        [name, *(f"{stages[name]:.1f}" for stages in (cold_stages, medians, means))]
        for name in cold_stages
    ]
    of = f"of {settings.repeats}"
    table = markdown(
        ["stage, seconds", "cold cache", f"warm cache, median {of}", f"mean {of}"], rows
    )
    values = {
        "cold_seconds": cold, "cold_stages": cold_stages, "warm_seconds": totals,
        "warm_stages": medians, "warm_mean_stages": means,
    }  # fmt: skip
    record("generate-time", settings, values, table)


def _generate(model: str, folder: Path) -> tuple[float, dict[str, float]]:
    """Seconds of one process, and what it says of its stages."""
    out = folder / "video.npz"
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    prompt = "a small red circle moves left over stripes"
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "fv_jax", "generate", prompt, "--out", out, "--model", model],
        check=True, env=environment, capture_output=True,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    return seconds, json.loads(str(np.load(out)["stats"]))["seconds"]
