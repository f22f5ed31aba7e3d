"""Window decoding against W = 1: the same ids? how much less time? how many ids a step?

ids     every prompt's whole video at other windows, without drafts, in other batches and
        without guidance, compared id by id with W = 1. Where one differs, the two best scores
        at the first difference are given: floats that tie may be ordered differently.
time    one video at a time, key frames and inserted frames apart; all windows in turn for
        every prompt, compiled before, medians over the prompts. Twice: as `fv generate` makes a
        video (guidance reads each id twice, all gaps are rows of one batch) and with one row of
        the network at a time (no guidance, two key frames and the gap between them)
forced  the frames of one gap, and of four at once, when a random 80% of their ids are known

    cost   six minutes on two CPU cores (estimated)
"""

import dataclasses
import statistics
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from tqdm import tqdm

from fv_jax.batching import filled
from fv_jax.config.model import Options
from fv_jax.generation import drafts
from fv_jax.generation.engine import KEY_FRAMES
from fv_jax.generation.generator import Generator
from fv_jax.generation.plan import inserted, text_ids
from fv_jax.generation.policies import Sampling, position_noise
from fv_jax.generation.sampler import guided, readings
from fv_jax.generation.stats import Stats
from fv_jax.media.clip import Clip
from fv_jax.reporting.results import markdown, record
from fv_jax.sequence.packing import interpolation_serials, key_frame_serials, pack
from fv_jax.sequence.vocab import FREE
from fv_jax.shapes import scenes

_WINDOWS = (1, 4, 8, 16, 32, 77)
_TIMED = (1, 2, 4, 8, 16, 32, 77)  # 77: a whole block
_FORCED = 0.8


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and where to write the result."""

    model: str = "shapes"
    """A shipped model's name, or a model folder."""
    prompts: int = 100
    """Prompts whose ids are compared."""
    timed: int = 15
    """Prompts that are timed."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""

    def __post_init__(self) -> None:
        if not 1 <= self.timed <= self.prompts:
            raise ValueError(f"timed must be in 1..prompts, got {self.timed} of {self.prompts}")


def run(settings: Settings) -> None:
    """Measure and record."""
    generator = Generator.load(settings.model)
    prompts = [scenes.clip("test", i).caption for i in range(settings.prompts)]
    timed = prompts[: settings.timed]
    times = {
        "as `fv generate` does": _time(generator, timed, Options()),
        "one row at a time": _time(generator, timed, Options(guidance=1.0, key_frames=2)),
    }
    forced = _time_forced(generator, timed)
    ids = _compare(generator, prompts)
    values = {"ids": ids, "times": times, "forced": forced, "model": settings.model}
    record("window", settings, values, _table(ids, times, forced))


def _compare(generator: Generator, prompts: list[str]) -> list[dict[str, Any]]:
    """One row per way of decoding: videos that differ from W = 1, batch 8."""
    ways = [(f"W = {w}", Options(window=w), 8) for w in _WINDOWS[1:]]
    ways += [("W = 8, no drafts", Options(window=8, drafts=False), 8)]
    ways += [("W = 1, batch 1", Options(window=1), 1), ("W = 8, batch 1", Options(window=8), 1)]
    ways += [("W = 16, batch 3", Options(window=16), 3)]
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("", {}),
        (", temperature 0", {"temperature": 0.0}),
        (", no guidance", {"guidance": 1.0}),
    ]
    rows = []
    for label, more in kinds:
        some = ways if not more else [ways[1], ways[-1]]
        plain = _videos(generator, prompts, Options(window=1, **more), 8, f"W = 1{label}")
        for name, options, batch in some:
            options = dataclasses.replace(options, **more)
            videos = _videos(generator, prompts, options, batch, name + label)
            differ = [i for i, (a, b) in enumerate(zip(plain, videos)) if (a.ids != b.ids).any()]
            gaps = [_gap(generator, options, plain[i], videos[i]) for i in differ]
            rows.append({"way": name + label, "videos differ": len(differ), "score gaps": gaps})
    return rows


def _videos(
    generator: Generator, prompts: list[str], options: Options, batch: int, label: str
) -> list[Clip]:
    clips = []
    for first in tqdm(range(0, len(prompts), batch), desc=label):
        part = prompts[first : first + batch]
        rows = filled(part, batch)  # one shape, one compilation
        clips += generator.generate(rows, seed=first, options=options)[: len(part)]
    return clips


def _gap(generator: Generator, options: Options, a: Clip, b: Clip) -> float:
    """Distance of the two best scores at the first key-frame id that differs; NaN if none does.

    Only key frames: a difference there changes all frames between them.
    """
    keys_a, keys_b = (c.ids[c.key_frame].reshape(1, c.key_frame.sum(), -1) for c in (a, b))
    if (keys_a == keys_b).all():
        return float("nan")
    sampler = generator.engine.sampler(
        Sampling(options.temperature, options.top_k, options.top_p),
        1,
        window=options.window,
        guidance=options.guidance,
    )
    text, serials = text_ids(generator.model, a.prompt)[None], key_frame_serials(keys_a.shape[1])
    gap = generator.model.config.key_frame_stride
    tokens, other = (pack(text, keys, serials, sampler.sequence, gap) for keys in (keys_a, keys_b))
    place = int(np.flatnonzero(tokens[0] != other[0])[0])
    state = generator.engine.start(sampler, [(a.seed, KEY_FRAMES)])
    network = nnx.merge(generator.model.graph, generator.model.params)
    read = readings(sampler, jnp.asarray(tokens[:, :place]), jnp.arange(place)[None])
    hidden, _ = network.chunkwise(read, state.net)
    scores = guided(sampler, network.logits(hidden[:, -1:]))[:, 0]
    if options.temperature:
        codes = sampler.sequence.frame_codes
        noise = position_noise(state.keys, jnp.asarray([place]), codes)
        scores = scores / options.temperature + noise
    best = np.sort(np.asarray(scores)[0])
    return float(best[-1] - best[-2])


def _time(generator: Generator, prompts: list[str], base: Options) -> list[dict[str, Any]]:
    """Median sampling seconds of a whole video, and ids per step by stage."""
    ways = {f"W = {w}": dataclasses.replace(base, window=w, inherit=0.0) for w in _TIMED}
    ways["W chosen by the rows"] = dataclasses.replace(base, inherit=0.0)
    for share in (0.2, 1.0):
        ways[f"the same, inherit {share:g}"] = dataclasses.replace(base, inherit=share)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    counts: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    for options in ways.values():  # compile
        generator.generate(prompts[:1], seed=0, options=options)
    for i, prompt in enumerate(tqdm(prompts, desc="time")):
        for name, options in ways.items():
            times, stages = [], []
            for part in (dataclasses.replace(options, insert=0), options):
                clip = generator.generate([prompt], seed=i, options=part)[0]
                times.append(clip.stats["seconds"]["sample"])
                stages.append([clip.stats["sampled"], clip.stats["steps"]])
            seconds[name].append((times[0], times[1] - times[0]))
            counts[name].append(np.asarray([stages[0], np.subtract(stages[1], stages[0])]))
    rows = []
    gaps = (base.key_frames or generator.model.config.key_frames) - 1
    for name in ways:
        key, between = (statistics.median(s[i] for s in seconds[name]) for i in (0, 1))
        (key_ids, key_steps), (ids, steps) = np.sum(counts[name], axis=0)
        rows.append(
            {
                "way": name,
                "key frames, ms": 1e3 * key,
                "inserted, ms": 1e3 * between,
                "whole, ms": 1e3 * statistics.median(sum(s) for s in seconds[name]),
                "ids a step, key frames": key_ids / key_steps,
                "ids a step and row, inserted": ids / steps / gaps,
            }
        )
    return rows


def _time_forced(generator: Generator, prompts: list[str]) -> list[dict[str, Any]]:
    """Median milliseconds of inserting frames when none or most of their ids are known."""
    insert = inserted(generator.model, Options())[0]
    sequence = generator.model.config.sequence
    guesses, order = drafts.neighboring_frame(insert, sequence), interpolation_serials(insert)
    rng, clips = np.random.default_rng(0), []
    for seed, prompt in enumerate(prompts):
        ids = generator.generate([prompt], seed=seed, options=Options(inherit=0.0))[0].ids
        gaps = (len(ids) - 1) // (insert + 1)
        starts = np.arange(gaps) * (insert + 1)
        frames = ids.reshape(len(ids), -1)[starts[:, None] + np.asarray(order) - 1]
        text = np.repeat(text_ids(generator.model, prompt)[None], gaps, axis=0)
        clips.append((text, frames, rng.uniform(size=frames[:, 2:].shape) < _FORCED))

    def milliseconds(rows: int, window: int, share: float) -> float:
        taken = []
        policy = Sampling(Options().insert_temperature)
        sampler = generator.engine.sampler(policy, rows, window=window)
        for text, frames, known in [clips[0], *clips]:  # the first once more: it may compile
            given = frames[:rows].copy()
            given[:, 2:][~known[:rows] | (share == 0)] = FREE
            tokens = pack(
                text[:rows], given, order, sequence,
                generator.model.config.key_frame_stride,
            )  # fmt: skip
            state = generator.engine.start(sampler, [(0, i) for i in range(rows)])
            stats = Stats()
            generator.engine.decode(
                state, sampler, stats, tokens=tokens, guesses=guesses, order=order
            )
            taken.append(stats.summary(1)["seconds"]["sample"])
        return 1e3 * statistics.median(taken[1:])

    return [
        {
            "gaps at once": rows, "known ids": share,
            **{f"W = {w}": milliseconds(rows, w, share) for w in _TIMED},
        }
        for rows in (1, gaps) for share in (0.0, _FORCED)
    ]  # fmt: skip


def _table(ids, times: dict[str, list[dict[str, Any]]], forced: list[dict[str, Any]]) -> str:
    parts = []
    for how, rows in times.items():
        plain = rows[0]["whole, ms"]
        header = [how, *list(rows[0])[1:], "times faster than W = 1"]
        cells = [
            [*(f"{v:.2f}" if isinstance(v, float) else v for v in row.values()),
             f"{plain / row['whole, ms']:.2f}"] for row in rows
        ]  # fmt: skip
        parts.append(markdown(header, cells))
    plain = {row["gaps at once"]: row["W = 1"] for row in forced if not row["known ids"]}
    best = lambda row: min(row[f"W = {w}"] for w in _TIMED)
    cells = [
        [row["gaps at once"], f"{row['known ids']:.0%}", *(row[f"W = {w}"] for w in _TIMED),
         f"{plain[row['gaps at once']] / best(row):.2f}"] for row in forced
    ]  # fmt: skip
    header = ["gaps at once", "known ids", *(f"W = {w}, ms" for w in _TIMED),
              "best: times faster than W = 1, none known"]  # fmt: skip
    parts.append(markdown(header, cells))
    same = [[row["way"], row["videos differ"], row["score gaps"] or ""] for row in ids]
    parts.append(markdown(["compared with W = 1", "videos that differ", "score gaps there"], same))
    return "\n".join(parts)
