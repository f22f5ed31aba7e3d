"""Window decoding against W = 1: the same ids? how much less time? how many ids a step?

ids     every prompt's whole video at other windows, without drafts, in other batches and
        without guidance, compared id by id with W = 1. Where one differs, the two best scores
        at the first difference are given: floats that tie may be ordered differently.
time    one video at a time, key frames and inserted frames apart; all windows in turn for
        every prompt, compiled before, medians over the prompts
skip    the same for shares of stable ids that are inherited, at W = 1 and at the best window
"""

import dataclasses
import statistics
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from tqdm import tqdm

from fv_jax.bench_record import markdown, record
from fv_jax.config import Options
from fv_jax.data import shapes
from fv_jax.generate import KEY_FRAMES, Clip, Generator
from fv_jax.sampling.decode import guided, readings
from fv_jax.sampling.policies import position_noise
from fv_jax.sequence import key_frame_serials, pack

_WINDOWS = (1, 4, 8, 16, 32)


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
    prompts = [shapes.clip("test", i).caption for i in range(settings.prompts)]
    ids = _compare(generator, prompts)
    times = _time(generator, prompts[: settings.timed])
    values = {"ids": ids, "times": times, "prompts": settings.prompts, "model": settings.model}
    record("window", settings, values, _table(ids, times))


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
        rows = part + part[-1:] * (batch - len(part))  # one shape, one compilation
        clips += generator.generate(rows, seed=first, options=options)[: len(part)]
    return clips


def _gap(generator: Generator, options: Options, a: Clip, b: Clip) -> float:
    """Distance of the two best scores at the first key-frame id that differs; NaN if none does.

    Only key frames: a difference there changes all frames between them.
    """
    keys_a, keys_b = (c.ids[c.key_frame].reshape(1, c.key_frame.sum(), -1) for c in (a, b))
    if (keys_a == keys_b).all():
        return float("nan")
    sampler = generator.sampler(options, options.temperature, options.guidance)
    text, serials = generator.text_ids(a.prompt)[None], key_frame_serials(keys_a.shape[1])
    tokens, other = (pack(text, keys, serials, sampler.sequence) for keys in (keys_a, keys_b))
    place = int(np.flatnonzero(tokens[0] != other[0])[0])
    state = generator.start(sampler, [(a.seed, KEY_FRAMES)])
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


def _time(generator: Generator, prompts: list[str]) -> list[dict[str, Any]]:
    """Median sampling seconds of a whole video, and ids per step by stage."""
    ways = {f"W = {w}": Options(window=w, inherit=0.0) for w in _WINDOWS}
    for share in (0.2, 1.0):
        for w in (1, 8):
            ways[f"W = {w}, inherit {share:g}"] = Options(window=w, inherit=share)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    ids: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    for options in ways.values():  # compile
        generator.generate(prompts[:1], seed=0, options=options)
    for i, prompt in enumerate(tqdm(prompts, desc="time")):
        for name, options in ways.items():
            keys = dataclasses.replace(options, insert=0)
            parts, counts = [], []
            for part in (keys, options):
                clip = generator.generate([prompt], seed=i, options=part)[0]
                parts.append(clip.stats["seconds"]["sample"])
                counts.append([clip.stats["sampled"], clip.stats["steps"]])
            counts[1] = [whole - key for whole, key in zip(counts[1], counts[0])]
            seconds[name].append((parts[0], parts[1] - parts[0]))
            ids[name].append(np.asarray(counts))
    rows = []
    for name in ways:
        key, between = (statistics.median(s[i] for s in seconds[name]) for i in (0, 1))
        total = np.sum(ids[name], axis=0)
        rows.append(
            {
                "way": name,
                "key frames, ms": 1e3 * key,
                "inserted, ms": 1e3 * between,
                "ids a step, key frames": total[0, 0] / total[0, 1],
                "ids a step, inserted": total[1, 0] / total[1, 1],
            }
        )
    return rows


def _table(ids: list[dict[str, Any]], times: list[dict[str, Any]]) -> str:
    plain = times[0]["key frames, ms"] + times[0]["inserted, ms"]
    cells = [
        [
            row["way"],
            *(f"{row[k]:.1f}" for k in ("key frames, ms", "inserted, ms")),
            f"{plain / (row['key frames, ms'] + row['inserted, ms']):.2f}",
            *(f"{row[k]:.2f}" for k in ("ids a step, key frames", "ids a step, inserted")),
        ]
        for row in times
    ]
    header = [
        "one video", "key frames, ms", "inserted, ms", "times faster than W = 1",
        "ids a step, key frames", "ids a step, inserted",
    ]  # fmt: skip
    same = [[row["way"], row["videos differ"], row["score gaps"] or ""] for row in ids]
    return (
        markdown(header, cells)
        + "\n"
        + markdown(["compared with W = 1", "videos that differ", "score gaps there"], same)
    )
