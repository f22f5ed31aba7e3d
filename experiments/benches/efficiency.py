"""The paper's Fig. 6, measured side by side: seconds per frame of every way of making a video.

All networks have the parameters of ours within 5% and run in one process, in turns, warm; each
number is a median of three trials, with their mean, which the paper reports, beside it.
`baselines/ways.py` says what is timed whole and what in part. A run that is stopped goes on after
the last size it finished.

    RetNet, in turn        all frames one after the other, one token per step
    FlashVideo, W = 1      key frames, then the frames between them, one token per step
    FlashVideo, windowed   the same with windows (batch 1), modelled: the measured cost of a step
                           times the steps that the shipped model would take, which decides so
                           many ids a step on its own 64 px
    transformer, no cache  autoregressive, the whole prefix anew for every id
    transformer, KV cache  autoregressive, one token per step
    MaskGIT                all ids at once, 12 steps
    pixel diffusion        a U-Net on pixels, 256 steps

`--preset tiny` has the widths of the shipped model and fits two CPU cores in ten minutes;
`--preset paper` has 302 M parameters without embeddings, in bfloat16, for a GPU.

    cost   ten minutes on two CPU cores; `--preset paper`: an hour of a GPU (estimated)
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

import jax
import numpy as np
from tqdm import tqdm

from experiments.baselines import ways
from experiments.baselines.ways import Cell, Way
from experiments.timing import bandwidth, times_in_turns
from fv_jax.config.model import PRESETS, Options, RetNetConfig
from fv_jax.files import replacing, write_text
from fv_jax.generation.generator import Generator
from fv_jax.generation.plan import frames_a_gap, inserted
from fv_jax.generation.policies import Sampling
from fv_jax.generation.window_size import KEPT_BETWEEN, KEPT_KEY_FRAMES
from fv_jax.provenance import provenance
from fv_jax.reporting.results import markdown, record
from fv_jax.shapes import scenes

INHERIT = (0.0, 0.2, 1.0)
WINDOWED = "FlashVideo, windowed (modelled)"
REPEATS = 3


@dataclasses.dataclass(frozen=True)
class Preset:
    """What a preset measures.

    Attributes:
        network: sizes of ours; the others follow.
        text_tokens: per block.
        codes: frame codes.
        cells: in the order of their size.
    """

    network: RetNetConfig
    text_tokens: int
    codes: int
    cells: tuple[Cell, ...]


_SIZES = [(pixels, frames) for pixels in (64, 128, 160) for frames in (5, 16)]
PRESETS_HERE = {
    "tiny": Preset(
        PRESETS["shapes"], 12, 1024,
        (*(Cell(*size, 1) for size in _SIZES), Cell(64, 16, 16), Cell(64, 16, 64)),
    ),
    "paper": Preset(
        PRESETS["paper"], 64, 20_000,
        tuple(Cell(*size, batch) for batch in (1, 16, 64) for size in _SIZES),
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and where to write the result."""

    preset: Literal["tiny", "paper"] = "tiny"
    """Sizes of the networks and of the videos."""
    patience: float = 5.0
    """Seconds that one timed call may take; what would take longer is left out."""
    prompts: int = 12
    """Prompts by which the shipped model's ids per step are measured."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


def run(settings: Settings) -> None:
    """Measure and record."""
    import matplotlib  # noqa: F401 - fail before measuring where the plot cannot be made

    preset = PRESETS_HERE[settings.preset]
    begun = settings.out / "results" / f"efficiency-{settings.preset}.part.json"
    values = _begun(begun, settings)
    cells = values["cells"]
    bar = tqdm(preset.cells[len(cells) :], unit="cell", initial=len(cells), total=len(preset.cells))
    for cell in bar:
        bar.set_description(str(cell))
        cells.append(_measure(preset, cell, values["ids_per_step"], settings.patience, cells))
        write_text(begun, json.dumps(values))
    kept, speed = values["ids_per_step"], values["bandwidth"]
    name = f"efficiency-{settings.preset}"
    picture = settings.out / "results" / f"{name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    _plot(cells, picture)
    record(
        "efficiency", settings, values, _table(cells, kept, speed, picture.name), settings.preset
    )
    begun.unlink()


def _begun(path: Path, settings: Settings) -> dict[str, Any]:
    """What an interrupted run on this device, with this jax and these settings has measured."""
    device, here = jax.devices()[0].device_kind, provenance()
    same = {"device": device, **{key: here[key] for key in ("jax", "machine", "commit")},
            "patience": settings.patience, "prompts": settings.prompts}  # fmt: skip
    if path.exists():
        values = json.loads(path.read_text(encoding="utf-8"))
        if all(values.get(key) == value for key, value in same.items()):
            print(f"going on after {len(values['cells'])} cells of {path}")
            return values
    kept = ids_per_step(settings.prompts)
    return {**same, "bandwidth": bandwidth(), "ids_per_step": kept, "cells": []}


def ids_per_step(prompts: int) -> list[dict[str, float]]:
    """Ids that the shipped model decides at each step over ids, one video at a time.

    Without guidance, as all else here; inserted frames are the likeliest ids, as always. Steps
    over known tokens (W of them each) are not counted. One row per window and inherited share.
    """
    generator = _shipped()
    sequence, keys = generator.model.config.sequence, generator.model.config.key_frames
    captions = [scenes.clip("test", i).caption for i in range(prompts)]
    rows = []
    for window in tqdm(sorted({*_windows(2), *_windows(3), *_windows(4)}), desc="ids per step"):
        for inherit in INHERIT:
            options = Options(window=window, inherit=inherit, guidance=1.0)
            steps = [0, 0]
            for seed, caption in enumerate(captions):
                for stage, insert in enumerate((0, -1)):
                    part = dataclasses.replace(options, insert=insert)
                    clip = generator.generate([caption], seed=seed, options=part)[0]
                    steps[stage] += clip.stats["steps"]
            steps[1] -= steps[0]
            between = frames_a_gap(inserted(generator.model, options)) - 1
            blocks = np.asarray([keys, between]) * prompts
            known = (sequence.stride - sequence.frame_tokens) / window
            per_step = blocks * sequence.frame_tokens / (steps - blocks * known)
            rows.append({"window": window, "inherit": inherit, "key frames": float(per_step[0]),
                         "inserted": float(per_step[1])})  # fmt: skip
    return rows


@functools.cache
def _shipped() -> Generator:
    return Generator.load()


def _windows(keys: int) -> tuple[int, int]:
    """What the shipped model takes here for one video's key frames, and for the gaps between."""
    sampler, policy = _shipped().engine.sampler, Sampling()
    first = sampler(policy, 1, kept=KEPT_KEY_FRAMES)
    return first.window, sampler(policy, keys - 1, kept=KEPT_BETWEEN).window


def _measure(
    preset: Preset, cell: Cell, kept: list[dict[str, float]], patience: float,
    before: list[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """Seconds per frame of all ways on one cell."""
    calls: dict[tuple[str, int], Callable] = {}
    made: dict[str, Way] = {}
    left_out = {}
    for name, make in _ways(preset, cell):
        guess = _expected(name, cell, before)
        if guess > patience:
            left_out[name] = f"about {guess:.0f} s a call"
            continue
        try:
            way = make()
            for i, (_, call) in enumerate(way.calls):
                jax.block_until_ready(call())  # compiles
                calls[name, i] = call
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            left_out[name] = "out of memory"
            calls = {key: call for key, call in calls.items() if key[0] != name}
        else:
            made[name] = way
    taken = times_in_turns(calls, REPEATS, warm=True)
    clips = cell.frames * cell.batch
    rows = {}
    for name, way in made.items():
        each = [taken[name, i] for i in range(len(way.calls))]
        medians, means = ([middle(times) for times in each] for middle in (median, fmean))
        if name == WINDOWED:
            total, mean = (_windowed(preset, cell, kept, seconds) for seconds in (medians, means))
        else:
            weights = [weight for weight, _ in way.calls]
            total, mean = (
                sum(w * s for w, s in zip(weights, seconds)) for seconds in (medians, means)
            )
        rows[name] = {
            "seconds_per_frame": total / clips, "mean_seconds_per_frame": mean / clips,
            "parameters": way.parameters, "timed": way.part,
            "steps": way.steps, "seconds_per_step": total / way.steps if way.steps else 0.0,
            "step_bytes": way.step_bytes, "longest_call": max(medians),
        }  # fmt: skip
    return {**dataclasses.asdict(cell), "ways": rows, "left_out": left_out}


def _windowed(
    preset: Preset, cell: Cell, kept: list[dict[str, float]], seconds: list[float]
) -> float:
    """Seconds of a batch of clips at so many ids a step, from those of the three calls timed."""
    layout = ways.sequence(cell, preset.text_tokens, preset.codes)
    windows = _windows(ways.INSERTIONS[cell.frames][0])
    first, then, total = seconds
    for stage, window, taken in (
        ("key frames", windows[0], first),
        ("inserted", windows[1], then - total),
    ):
        # Inheriting changes no step (see the table), so 0 stands for all shares.
        ids = next(row[stage] for row in kept if row["window"] == window)
        known = layout.stride - layout.frame_tokens
        steps = known / window + layout.frame_tokens / ids
        total += taken / (layout.stride / window) * steps
    return total


def _ways(preset: Preset, cell: Cell) -> Iterator[tuple[str, Callable[[], Way]]]:
    """Names and makers; ours share one network."""
    layout = ways.sequence(cell, preset.text_tokens, preset.codes)
    ours = ways.RetNets(preset.network, layout)
    yield "RetNet, in turn", lambda: ours.in_turn(cell)
    yield "FlashVideo, W = 1", lambda: ours.inserted(cell)
    if cell.batch == 1:  # rows that go on together keep fewer
        windows = _windows(ways.INSERTIONS[cell.frames][0])
        yield WINDOWED, lambda: ours.windows(cell, windows)
    for name, make in (
        ("transformer, KV cache", ways.transformer_with_cache),
        ("transformer, no cache", ways.transformer_without_cache),
        ("MaskGIT", ways.masked_transformer),
        ("pixel diffusion", ways.pixel_diffusion),
    ):
        yield name, lambda make=make: make(preset.network, layout, cell)


def _expected(name: str, cell: Cell, before: list[dict[str, Any]]) -> float:
    """Seconds of the longest call, from the nearest smaller cell: time grows with the tokens,
    and with their square where the way attends to all of them."""
    ids = lambda c: c["pixels"] ** 2 * c["frames"]
    now = dataclasses.asdict(cell)
    smaller = [c for c in before if name in c["ways"] and ids(c) <= ids(now)]
    if not smaller:
        return 0.0
    near = max(smaller, key=lambda c: (ids(c), c["batch"]))
    square = 2 if name in ("transformer, KV cache", "transformer, no cache", "MaskGIT") else 1
    growth = (ids(now) / ids(near)) ** square
    return near["ways"][name]["longest_call"] * growth * max(1, cell.batch / near["batch"])


def _table(cells, kept, speed: float, picture: str) -> str:
    shown = list(dict.fromkeys(name for cell in cells for name in cell["ways"]))
    labels = [f"{c['pixels']} px, {c['frames']} f., B {c['batch']}" for c in cells]
    rows = [[name, *(_cell(c, name) for c in cells)] for name in shown]
    means = [[name, *(_cell(c, name, "mean_seconds_per_frame") for c in cells)] for name in shown]
    ratios = [
        [f"{name} / RetNet, in turn", *(_ratio(c, name, "RetNet, in turn") for c in cells)]
        for name in shown[1:]
    ]
    sizes = {
        name: next(c["ways"][name]["parameters"] for c in cells if name in c["ways"])
        for name in shown
    }
    reach = [[name, *(_reach(c, name, speed) for c in cells)] for name in shown[:2]]
    steps = [
        [r["window"], f"{r['inherit']:g}", f"{r['key frames']:.2f}", f"{r['inserted']:.2f}"]
        for r in kept
    ]
    left = sorted({
        f"{name} at {label}: {why}"
        for c, label in zip(cells, labels) for name, why in c["left_out"].items()
    })  # fmt: skip
    timed = {name: c["ways"][name]["timed"] for c in cells for name in c["ways"]}
    parts = "; ".join(f"{name}: {timed[name]}" for name in shown if timed.get(name))
    return "\n".join([
        f"![seconds per frame]({picture})\n",
        f"Milliseconds per frame, median of {REPEATS}:\n",
        markdown(["", *labels], rows),
        f"The same, mean of {REPEATS}, as the paper reports it:\n",
        markdown(["", *labels], means),
        "Times the milliseconds of RetNet in turn:\n",
        markdown(["", *labels], ratios),
        f"Time that the bytes of a step would take at {speed / 1e9:.1f} GB/s (what copying moves "
        "here), as a share of the time it took; above 100%: they come out of the cache:\n",
        markdown(["", *labels], reach),
        "Ids that the shipped model decides at a step, on its own 64 px (inheriting stable ids "
        "saves no step that guessing them does not):\n",
        markdown(["W", "inherit", "key frames", "inserted"], steps),
        "Parameters: " + "; ".join(f"{n} {count:,}" for n, count in sizes.items()) + ".\n",
        f"Timed in part: {parts}.\n" if parts else "",
        "Left out: " + "; ".join(left) + ".\n" if left else "",
    ])  # fmt: skip


def _cell(cell, name: str, of: str = "seconds_per_frame") -> str:
    if name not in cell["ways"]:
        return "left out" if name in cell["left_out"] else ""
    return f"{1e3 * cell['ways'][name][of]:.3g}"


def _ratio(cell, name: str, to: str) -> str:
    if name not in cell["ways"] or to not in cell["ways"]:
        return ""
    per_frame = lambda n: cell["ways"][n]["seconds_per_frame"]
    return f"{per_frame(name) / per_frame(to):.3g}"


def _reach(cell, name: str, speed: float) -> str:
    way = cell["ways"].get(name)
    return f"{way['step_bytes'] / speed / way['seconds_per_step']:.0%}" if way else ""


def _plot(cells: list[dict[str, Any]], path: Path) -> None:
    """Milliseconds per frame over the size, one panel per number of frames, at the least batch."""
    import matplotlib.pyplot as plt

    least = min(c["batch"] for c in cells)
    panels = sorted({c["frames"] for c in cells if c["batch"] == least})
    figure, axes = plt.subplots(
        1, len(panels), figsize=(5 * len(panels) + 2.5, 4), layout="constrained", squeeze=False,
        sharey=True,
    )  # fmt: skip
    for axis, frames in zip(axes[0], panels):
        here = [c for c in cells if c["frames"] == frames and c["batch"] == least]
        lines: dict[str, list[tuple[int, float]]] = {}
        for cell in here:
            for name, way in cell["ways"].items():
                point = (cell["pixels"], 1e3 * way["seconds_per_frame"])
                lines.setdefault(name, []).append(point)
        for (label, points), marker in zip(lines.items(), "os^Dv*Px"):
            axis.semilogy(*zip(*points), marker + "-", label=label)
        axis.set(title=f"{frames} frames, batch {least}", xlabel="px",
                 xticks=[c["pixels"] for c in here])  # fmt: skip
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("ms per frame")
    axes[0][-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    plt.close(figure)
