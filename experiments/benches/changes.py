"""Are key frames better coded as what changes? Three networks in equal CPU time.

dense     the paper's: every id of every key frame, each a step (section 3.2)
features  the same, told the 3x3 ids around each place in the key frames before it
changes   told the same; after the first frame only what changes, a step a change

All start from the same images, then train for as much CPU time on key frames alone
(`experiments/changes.py`: sizes). Nats are of unseen clips, a frame, of all that changes: of
changes those of ids and places. They are told at equal time, and at as many steps as the way with
the fewest took, read off the curve.

Videos are sampled at temperature 1, without guidance and with 1.5. `shapes`: share that shows what
its caption says; `arcade`: share that a classifier of real frames takes for the game that was asked
for. PSNR (of the mean squared error) of key frames 2 and 3 against the clip's own, the first given:
sampled, and the likeliest ids and places; beside copying the given frame.

A decision is an id, or a place with its id, or that nothing changes any more: what a guess would
have to hit, if several were to be checked at once. Its nats tell roughly how often one could.

Sampling is timed in CPU time, without pixels, five key frames of the first seed's networks: an id
(or a change) at a time, and with windows of 8 and guesses: of changes the first frame, which is of
all ids. Sequential steps count a header that is read at once as one: of changes every one, of all
ids an id at a time the first.

    cost   35 minutes of a CPU core at 100 s a training (estimated), 85 at 240 s; `arcade` likewise
"""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from experiments.arcade_tokenizer import GAMES
from experiments.benches.arcade import game_judge
from experiments.changes import BUDGETS, WAYS, Trained, is_trained, step_seconds, trained
from experiments.claims.scores import spread
from experiments.timing import parameters
from fv_jax.batching import filled
from fv_jax.config.model import Options
from fv_jax.data.sources.base import open_source
from fv_jax.files import write_text
from fv_jax.generation.plan import plan_videos
from fv_jax.generation.stats import Stats
from fv_jax.media.clip import Clip
from fv_jax.metrics.signal_to_noise import decibels
from fv_jax.reporting.results import markdown, record
from fv_jax.shapes import scenes
from fv_jax.shapes.adherence import agreement, read

_BATCH = 16
_SEED = 20_000  # of the first video
_GUIDANCE = 1.5
_PARTS = 8  # of a training: a rounding of its steps
_WINDOWS = (1, 8)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to train and measure."""

    data: Literal["shapes", "arcade"] = "shapes"
    """Clips to train on; `arcade` needs its tokenizer (`fv train arcade_tokenizer`)."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """A training of every way for each."""
    seconds: int = 240
    """CPU time of a training, compilation and scoring apart; one that is done may go on."""
    videos: int = 128
    """Videos that are judged, of each network; 0 for nats alone."""
    clips: int = 32
    """Unseen clips whose first frame is given."""
    repeats: int = 5
    """Timed calls; the median counts. 0 for none."""
    only_train: bool = False
    """Train what is not trained, and stop there."""
    only_score: bool = False
    """Score what is trained, and say what is not."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


def run(settings: Settings) -> None:
    """Train, score, record: seeds come first, so that a part of them compares all ways."""
    name, seconds = settings.data, step_seconds(settings.data)
    steps = {way: max(round(settings.seconds / seconds[way] / _PARTS), 1) * _PARTS for way in WAYS}
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    missing, copying = [], {}
    for seed in settings.seeds:
        for way in WAYS:
            if settings.only_score and not is_trained(name, way, seed, steps[way]):
                missing.append(f"{way}, seed {seed}")
                continue
            run = trained(name, way, seed, steps[way])
            if settings.only_train:
                continue
            repeats = settings.repeats if seed == settings.seeds[0] else 0
            found[way].append(_kept(run, settings, repeats))
            if settings.videos and not copying:
                _, true = _clips(run, settings.clips)
                copying = {f"key frame {n + 1}": _decibels(true[:, n], true[:, 0]) for n in (1, 2)}
    if settings.only_train:
        return
    if not any(found.values()):
        raise ValueError(
            f"nothing of {name} is trained for {settings.seconds} s: leave --only-score off"
        )
    values = {
        "step seconds": seconds, "steps": steps, "scores": found, "missing": missing,
        "copying": copying,
    }  # fmt: skip
    record("changes", settings, values, _table(settings, values), variant=name)


def _kept(run: Trained, settings: Settings, repeats: int) -> dict[str, Any]:
    """Nats, and scores that lie beside the run if they are of this training and as much of it."""
    last, path = run.curve[max(run.curve)], Path(run.config.run.folder) / "scores.json"
    found = {
        "parameters": parameters(run.generator.model.params),
        **{f"nats, {name}": value for name, value in last.items()},
        "curve": {step: point["later"] for step, point in run.curve.items()},
        "decisions": run.task.decisions,
    }
    if not settings.videos:
        return found
    asked = [max(run.curve), settings.videos, settings.clips, repeats, list(_WINDOWS)]
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"asked": None}
    if before["asked"] != asked:
        times = _times(run, repeats) if repeats else {}
        before = {"asked": asked, "found": {**_scores(run, settings), "times": times}}
        write_text(path, json.dumps(before, indent=1) + "\n")
    return {**found, **before["found"]}


def _scores(run: Trained, settings: Settings) -> dict[str, Any]:
    captions, told = _asked(run, settings.videos)
    found: dict[str, Any] = {}
    for how, guidance in (("", 1.0), (", guided", _GUIDANCE)):
        made = _sampled(run, captions, _options(guidance=guidance))
        found[f"right{how}"] = float(np.mean([told(c.frames, t) for c, t in zip(made, captions)]))
        if not how:
            found["tokens fed"] = float(np.mean([c.stats["fed"] / c.stats["videos"] for c in made]))
    texts, true = _clips(run, settings.clips)
    for how, temperature in (("sampled", 1.0), ("likeliest", 0.0)):
        options = _options(key_frames=3, temperature=temperature)
        made = _sampled(run, texts, options, true[:, :1])
        frames = np.stack([clip.frames for clip in made])
        for n in (1, 2):
            found[f"key frame {n + 1}, {how}, dB"] = _decibels(true[:, n], frames[:, n])
    return found


def _options(**changed: Any) -> Options:
    """Key frames alone, without guidance unless it is `changed`; windows decide no id."""
    return Options(**{"insert": 0, "guidance": 1.0, "window": max(_WINDOWS), **changed})


def _asked(run: Trained, count: int) -> tuple[list[str], Callable[[np.ndarray, str], bool]]:
    """Texts, and what says of a video's key frames whether they show its text."""
    if "arcade" not in run.config.data:
        captions = scenes.all_captions(held_out=False)
        order = np.random.default_rng(0).permutation(len(captions))
        chosen = [captions[order[i % len(order)]] for i in range(count)]
        return chosen, lambda video, text: agreement(read(video), text)["all"]
    names = [game.replace("_", " ") for game in GAMES]
    clips, rng = run.task.clips.train, np.random.default_rng(0)
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
    config = run.config
    source = open_source(f"{config.data.rsplit('split=', 1)[0]}split=test,count={count}")
    entries, stride = [source[i] for i in range(count)], config.key_frame_stride
    frames = np.stack([entry.open().frames([0, stride, 2 * stride]) for entry in entries])
    return [entry.text for entry in entries], frames


def _decibels(true: np.ndarray, made: np.ndarray) -> float:
    return decibels(float(np.square(true.astype(np.float32) - made).mean()))


def _sampled(
    run: Trained, texts: list[str], options: Options, first: np.ndarray | None = None
) -> list[Clip]:
    """One video a text, in batches of one size."""
    made: list[Clip] = []
    starts = tqdm(range(0, len(texts), _BATCH), desc=f"sampling {run.config.name}", disable=None)
    for start in starts:
        part = texts[start : start + _BATCH]
        given = None if first is None else np.stack(filled(first[start : start + _BATCH], _BATCH))
        clips = run.generator.generate(
            filled(part, _BATCH), seed=_SEED + start, options=options, first_frames=given
        )
        made += clips[: len(part)]
    return made


def _times(run: Trained, repeats: int) -> dict[str, float]:
    """CPU milliseconds a video, and steps one after the other."""
    texts, _ = _asked(run, _BATCH)
    found = {}
    for batch in (1, _BATCH):
        for window in _WINDOWS:
            taken, steps = [], []
            for n in range(repeats + 1):
                options, seed = _options(window=window), _SEED + n * batch
                plan = plan_videos(run.generator.model, texts[:batch], seed=seed, options=options)
                stats, start = Stats(), time.process_time()
                run.generator.sample(plan, stats)
                taken.append((time.process_time() - start) / batch)
                steps.append(stats.summary(batch)["steps"])
            how = f"batch {batch}, W = {window}"
            found[f"{how}, ms"] = 1e3 * statistics.median(taken[1:])
            found[f"{how}, steps"] = statistics.mean(steps[1:])
    return found


def _table(settings: Settings, values: dict[str, Any]) -> str:
    seconds, steps = values["step seconds"], values["steps"]
    scores = {way: found for way, found in values["scores"].items() if found}
    batch, fewest = BUDGETS[settings.data].batch_size, min(steps[way] for way in scores)

    def after(found: dict[str, Any], step: float) -> float:
        """Nats by the curve."""
        curve = sorted((int(at), nats) for at, nats in found["curve"].items())
        return float(np.interp(step, *zip(*curve)))

    def line(measure: str, of: Callable[[str, dict[str, Any]], float]) -> list[str]:
        return [measure, *(spread([of(way, f) for f in scores[way]]) for way in scores)]

    lines = [
        ["parameters", *(f"{scores[way][0]['parameters']:,}" for way in scores)],
        ["CPU s a step", *(f"{seconds[way]:.3f}" for way in scores)],
        ["CPU ms a clip", *(f"{1e3 * seconds[way] / batch:.1f}" for way in scores)],
        ["steps in equal time", *(f"{steps[way]:,}" for way in scores)],
        line("nats a later key frame, equal time", lambda way, f: after(f, steps[way])),
        line("of these for places", lambda way, f: f["nats, places"]),
        line(f"nats a later key frame, {fewest:,} steps", lambda way, f: after(f, fewest)),
        line("decisions a later key frame", lambda way, f: f["decisions"]),
        line("nats each, equal time", lambda way, f: after(f, steps[way]) / f["decisions"]),
        line("nats of the first", lambda way, f: f["nats, first"]),
    ]
    first = {way: found[0] for way, found in scores.items()}
    if settings.videos:
        lines += [
            line("videos that show their text", lambda way, f: f["right"]),
            line(f"the same, guidance {_GUIDANCE}", lambda way, f: f["right, guided"]),
            line("tokens fed a video", lambda way, f: f["tokens fed"]),
        ]
    for name in (name for name in next(iter(first.values())) if name.endswith("dB")):
        lines.append(line(name, lambda way, f, name=name: f[name]))
    for name in max((f.get("times", {}) for f in first.values()), key=len):
        cells = (first[way]["times"].get(name, "") for way in first)
        lines.append([f"sampling: {name}", *(f"{x:.4g}" if x != "" else "" for x in cells)])
    curve = [
        line(
            f"{settings.seconds * part / _PARTS:g}",
            lambda way, f, part=part: after(f, steps[way] * part / _PARTS),
        )
        for part in range(1, _PARTS + 1)
    ]
    header = [f"{way} ({len(found)})" for way, found in scores.items()]
    copying = ", ".join(f"{name} {value:.2f} dB" for name, value in values["copying"].items())
    copying = f"Copying the given frame: {copying}." if copying else ""
    missing = f" Not trained yet: {'; '.join(values['missing'])}." if values["missing"] else ""
    return (
        f"{markdown(['measure (seeds)', *header], lines)}\n{copying}{missing}\n\n"
        "Nats a later key frame along the training, by its CPU seconds:\n\n"
        f"{markdown(['CPU s', *header], curve)}"
    )
