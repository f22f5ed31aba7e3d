"""Are key frames better coded as what changes? Three networks in equal CPU time.

dense     the paper's: every id of every key frame, each a step (section 3.2)
features  the same, told the 3x3 ids of the key frame before around the place that it predicts
changes   after the first frame only what changes, a step a change: its id, then the next place

All start from the same images (`experiments/changes/training.py`), then train for as much CPU time
on key frames alone. Nats are of unseen clips, a frame: of changes those of ids and places. They
are told at equal time, and at as many steps as the way with the fewest took, read off the curve.

Videos are sampled at temperature 1 without guidance. `shapes`: share that shows what its caption
says; `arcade`: share that a classifier of real frames takes for the game that was asked for. PSNR
(of the mean squared error) of key frames 2 and 3 against the clip's own, the first given: sampled,
and the likeliest ids and places; beside copying the given frame.

Sampling is timed in CPU time of one core, five key frames of the first seed's networks: an id at a
time, and with windows of 8 and guesses, which the networks that are fed all ids can have.
Sequential steps count a header as one.

    cost   80 minutes of a CPU core (estimated): 18 trainings of 4 minutes, 2 of images a seed
"""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from experiments.arcade_tokenizer import GAMES
from experiments.benches.arcade import game_judge
from experiments.changes.network import WAYS
from experiments.changes.sampling import Made, sample
from experiments.changes.training import BUDGETS, Trained, step_seconds, trained
from experiments.claims.scores import spread
from experiments.timing import parameters
from fv_jax.batching import filled
from fv_jax.data.sources.base import open_source
from fv_jax.files import write_text
from fv_jax.generation.policies import Sampling
from fv_jax.generation.sampler import Sampler
from fv_jax.reporting.results import markdown, record
from fv_jax.sequence.packing import pad_text
from fv_jax.shapes import scenes
from fv_jax.shapes.adherence import agreement, read

_BATCH = 16
_WINDOW = 8
_PARTS = 8  # of a training: a rounding of its steps


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to train and measure."""

    sets: tuple[str, ...] = ("shapes", "arcade")
    """Of clips; `arcade` needs its tokenizer."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """A training of every way for each."""
    seconds: int = 240
    """CPU time of a training, compilation and scoring apart; one that is done may go on."""
    videos: int = 128
    """Videos that are judged, of each network."""
    clips: int = 32
    """Unseen clips whose first frame is given."""
    repeats: int = 5
    """Timed calls; the median counts. 0 for none."""
    only_train: bool = False
    """Train what is not trained, and stop there."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


def run(settings: Settings) -> None:
    """Train, score, record: seeds come first, so that a part of them compares all ways."""
    values: dict[str, Any] = {}
    for name in settings.sets:
        seconds = step_seconds(name)
        steps = {
            way: max(round(settings.seconds / seconds[way] / _PARTS), 1) * _PARTS for way in WAYS
        }
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for seed in settings.seeds:
            for way in WAYS:
                run = trained(name, way, seed, steps[way])
                if settings.only_train:
                    continue
                repeats = settings.repeats if seed == settings.seeds[0] else 0
                found[way].append(_kept(run, settings, repeats))
        values[name] = {
            "step seconds": seconds, "steps": steps, "scores": found,
            "copying": {} if settings.only_train else _copied(name, settings.clips),
        }  # fmt: skip
    if not settings.only_train:
        tables = [f"## {name}\n\n{_table(name, values[name])}" for name in settings.sets]
        record("changes", settings, {"measures": values}, "\n\n".join(tables))


def _kept(run: Trained, settings: Settings, repeats: int) -> dict[str, Any]:
    """Scores that lie beside the run, if they are of this training and as much of it."""
    path = Path(run.task.config.run.folder) / "scores.json"
    asked = [max(run.curve), settings.videos, settings.clips, repeats]
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before["asked"] == asked:
            return before["found"]
    found = {**_scores(run, settings), "times": _times(run, repeats) if repeats else {}}
    write_text(path, json.dumps({"asked": asked, "found": found}, indent=1) + "\n")
    return found


def _scores(run: Trained, settings: Settings) -> dict[str, Any]:
    last = run.curve[max(run.curve)]
    frames = run.task.frames
    captions, told = _asked(run, settings.videos)
    made = _sampled(run, captions, window=_WINDOW)
    videos = [frames.decode(codes) for codes in _grids(run, made.frames)]
    found = {
        "parameters": parameters(run.params),
        **{f"nats, {name}": value for name, value in last.items()},
        "curve": {step: point["later"] for step, point in run.curve.items()},
        "right": float(np.mean([told(video, c) for video, c in zip(videos, captions)])),
        "tokens fed": float(made.fed.mean()), "steps": made.steps,
    }  # fmt: skip
    texts, true = _clips(run, settings.clips)
    first = frames.encode(true[:, 0]).reshape(len(true), -1)
    for how, temperature in (("sampled", 1.0), ("likeliest", 0.0)):
        made = _sampled(run, texts, window=_WINDOW, temperature=temperature, given=first)
        for n in (1, 2):
            pixels = frames.decode(_grids(run, made.frames[:, n]))
            found[f"key frame {n + 1}, {how}, dB"] = _decibels(true[:, n], pixels)
    return found


def _asked(run: Trained, count: int) -> tuple[list[str], Callable[[np.ndarray, str], bool]]:
    """Texts, and what says of a video's key frames whether they show its text."""
    if "arcade" not in run.task.config.data:
        captions = scenes.all_captions(held_out=False)
        order = np.random.default_rng(0).permutation(len(captions))
        chosen = [captions[order[i % len(order)]] for i in range(count)]
        return chosen, lambda video, text: agreement(read(video), text)["all"]
    names = [game.replace("_", " ") for game in GAMES]
    clips, rng = run.task.batches().clips, np.random.default_rng(0)
    real = [clips.draw(i, rng) for i in range(12 * len(names))]
    grid = run.task.sequence.frame_grid
    decode = lambda ids: run.task.frames.decode(ids[:17:4].astype(np.int32).reshape(-1, *grid))
    judge = game_judge([(text, decode(ids)) for text, ids in real], names)
    return (
        [names[i % len(names)] for i in range(count)],
        lambda video, text: judge(video) == names.index(text),
    )


def _clips(run: Trained, count: int) -> tuple[list[str], np.ndarray]:
    """Texts and the first three key frames of clips that were never trained on."""
    config = run.task.config
    source = open_source(f"{config.data.rsplit('split=', 1)[0]}split=test,count={count}")
    entries, stride = [source[i] for i in range(count)], config.key_frame_stride
    frames = np.stack([entry.open().frames([0, stride, 2 * stride]) for entry in entries])
    return [entry.text for entry in entries], frames


def _copied(name: str, count: int) -> dict[str, float]:
    run = trained(name, "images", 0, BUDGETS[name].image_steps)
    _, true = _clips(run, count)
    return {f"key frame {n + 1}": _decibels(true[:, n], true[:, 0]) for n in (1, 2)}


def _decibels(true: np.ndarray, made: np.ndarray) -> float:
    error = np.square(true.astype(np.float32) - made).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-10)))


def _grids(run: Trained, codes: np.ndarray) -> np.ndarray:
    return codes.reshape(*codes.shape[:-1], *run.task.sequence.frame_grid)


def _sampled(
    run: Trained, texts: list[str], *, window: int, temperature: float = 1.0,
    given: np.ndarray | None = None, batch: int = _BATCH, first_seed: int = 20_000,
) -> Made:  # fmt: skip
    """One video a text; `steps` are the mean of the batches'."""
    task, made = run.task, []
    sampler = Sampler(task.sequence, Sampling(temperature), 1 if task.way == "changes" else window)
    for start in tqdm(range(0, len(texts), batch), desc=f"sampling {task.way}", disable=None):
        part = filled(texts[start : start + batch], batch)
        text = np.stack([pad_text(task.text.encode(t), task.sequence) for t in part])
        one = sample(
            run.params, task.graph, sampler, text,
            list(range(first_seed + start, first_seed + start + batch)),
            key_frames=task.config.key_frames, guess=window > 1,
            given=None if given is None else np.stack(filled(given[start : start + batch], batch)),
        )  # fmt: skip
        made.append(one)
    join = lambda name: np.concatenate([getattr(one, name) for one in made])[: len(texts)]
    steps = round(statistics.mean(one.steps for one in made))
    return Made(join("frames"), join("nats"), join("fed"), steps)


def _times(run: Trained, repeats: int) -> dict[str, float]:
    """CPU milliseconds a video, and steps one after the other."""
    texts, _ = _clips(run, _BATCH)
    found = {}
    for batch in (1, _BATCH):
        for window in (1,) if run.task.way == "changes" else (1, _WINDOW):
            taken, steps = [], []
            for n in range(repeats + 1):
                start = time.process_time()
                made = _sampled(
                    run, texts[:batch], window=window, batch=batch, first_seed=n * batch
                )
                taken.append((time.process_time() - start) / batch)
                steps.append(made.steps)
            how = f"batch {batch}, W = {window}"
            found[f"{how}, ms"] = 1e3 * statistics.median(taken[1:])
            found[f"{how}, steps"] = statistics.mean(steps[1:])
    return found


def _table(name: str, values: dict[str, Any]) -> str:
    seconds, steps, scores = values["step seconds"], values["steps"], values["scores"]
    batch, fewest = BUDGETS[name].batch_size, min(steps.values())

    def after(found: dict[str, Any], step: float) -> float:
        """Nats by the curve."""
        curve = sorted((int(at), nats) for at, nats in found["curve"].items())
        return float(np.interp(step, *zip(*curve)))

    show = lambda way, of: spread([of(found) for found in scores[way]])
    of_all = {
        "parameters": lambda way: f"{scores[way][0]['parameters']:,}",
        "CPU s a step": lambda way: f"{seconds[way]:.3f}",
        "CPU s a clip": lambda way: f"{seconds[way] / batch:.4f}",
        "steps in equal time": lambda way: f"{steps[way]:,}",
        "nats a later key frame, equal time": lambda way: show(way, lambda f: f["nats, later"]),
        "of these for places": lambda way: show(way, lambda f: f["nats, places"]),
        f"nats a later key frame, {fewest:,} steps": lambda way: show(
            way, lambda f: after(f, fewest)
        ),
        "nats of the first": lambda way: show(way, lambda f: f["nats, first"]),
        "videos that show their text": lambda way: show(way, lambda f: f["right"]),
        "tokens fed a video": lambda way: show(way, lambda f: f["tokens fed"]),
    }
    for measure in (m for m in scores["dense"][0] if m.endswith("dB")):
        of_all[measure] = lambda way, m=measure: show(way, lambda f: f[m])
    times = {way: scores[way][0]["times"] for way in WAYS}
    for key in times["dense"]:
        of_all[f"sampling: {key}"] = lambda way, k=key: (
            f"{times[way][k]:.4g}" if k in times[way] else ""
        )
    lines = [[measure, *(cell(way) for way in WAYS)] for measure, cell in of_all.items()]
    copying = ", ".join(f"{key} {value:.2f} dB" for key, value in values["copying"].items())
    parts = [part / _PARTS for part in range(1, _PARTS + 1)]
    curve = [[f"{seconds['dense'] * steps['dense'] * part:.0f}"] for part in parts]
    for way in WAYS:
        for line, part in zip(curve, parts):
            line.append(show(way, lambda f, step=steps[way] * part: after(f, step)))
    seeds = len(scores["dense"])
    return (
        f"{seeds} seed(s).\n\n{markdown(['measure', *WAYS], lines)}\nCopying the given frame: "
        f"{copying}.\n\nNats a later key frame along the training:\n\n"
        f"{markdown(['CPU s', *WAYS], curve)}"
    )
