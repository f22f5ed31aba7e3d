"""Is a server worth building? Requests a second, and how long they wait, by how rows are batched.

Videos of 1 to 16 frames of 8x8 ids are asked for at random times (Poisson). What a block of frames
costs is measured, with the shipped network's sizes and random weights; the queue is simulated with
these times, so thousands of requests take no time.

    constant state, static       `fv generate --batch-size`: rows leave when the longest is done
    constant state, continuous   rows leave and others come in between two blocks
    KV cache, static             the same with a transformer of as many parameters
    KV cache, continuous         slots for the longest row that is in

Each has as many rows, of 1, 4 and 8, as serve the most requests.

That rows may come and go is not assumed: requests of all lengths are first made so, really, and
must have the ids that each has alone.

    cost   85 s of CPU time
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.baselines import ways
from experiments.baselines.attention import Transformer
from experiments.baselines.serving import Request, alone, cached_block, finished, made_by, served
from experiments.timing import times_in_turns
from fv_jax.config.model import PRESETS
from fv_jax.generation.sampler import DecodeState
from fv_jax.reporting.results import markdown, record
from fv_jax.sequence.packing import key_frame_serials, pack
from fv_jax.sequence.vocab import FREE

FRAMES = 16  # of the longest video
_ROWS = (1, 4, 8)  # that are compiled; fewer are filled up
_SHARES = (0.5, 0.9, 1.2)  # of what static batches of the constant state can do
_WAYS = [(kind, way) for kind in ("constant state", "KV cache") for way in ("static", "continuous")]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and where to write the result."""

    requests: int = 2000
    """Requests of the simulation, at every rate."""
    checked: int = 12
    """Requests that are really made while others come and go, and compared."""
    repeats: int = 9
    """Timed calls of each; the quickest counts, since other work only adds."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""

    def __post_init__(self) -> None:
        for name in ("requests", "checked", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}")


def run(settings: Settings) -> None:
    """Measure and record."""
    cell = ways.Cell(pixels=64, frames=FRAMES, batch=1)
    ours = ways.RetNets(PRESETS["shapes"], ways.sequence(cell, text_tokens=12, codes=400))
    lengths = np.random.default_rng(0).integers(1, FRAMES + 1, settings.requests).tolist()
    same = _same_ids(ours, lengths[: settings.checked])
    costs = _costs(ours, settings.repeats)
    best = {way: max((_capacity(lengths, costs, *way, r), r) for r in _ROWS) for way in _WAYS}
    rates = [share * best["constant state", "static"][0] for share in _SHARES]
    rows = [
        {"what": kind, "batches": way, "rows": most, "capacity": capacity,
         "seconds": [_latencies(lengths, costs, kind, way, most, rate) for rate in rates]}
        for (kind, way), (capacity, most) in best.items()
    ]  # fmt: skip
    values = {
        "blocks": [{"what": kind, "rows": r, "frames": n, "seconds": s}
                   for (kind, r, n), s in costs.items()],
        "rates": rates, "ways": rows, "checked": settings.checked, "same_ids": same,
    }  # fmt: skip
    header = ["", "rows", "most requests a second",
              *(f"{rate:.2f} a second: mean / 95%, s" for rate in rates)]  # fmt: skip
    cells = [
        [f"{row['what']}, {row['batches']}", row["rows"], row["capacity"],
         *(f"{mean:.2f} / {late:.2f}" for mean, late in row["seconds"])] for row in rows
    ]  # fmt: skip
    by_rows = [
        [f"{kind}, frame {n}", *(1e3 * costs[kind, r, n] for r in _ROWS)]
        for kind, n in dict.fromkeys((kind, n) for kind, _, n in costs)
    ]
    table = (
        f"{markdown(header, cells)}\nA frame, ms:\n\n"
        f"{markdown(['', *(f'{r} rows' for r in _ROWS)], by_rows)}\n"
        f"{settings.checked} requests made together have the ids that each has alone: {same}.\n"
    )
    record("serving", settings, values, table)


def _same_ids(ours: ways.RetNets, lengths: list[int]) -> bool:
    requests = [request(ours, frames) for frames in lengths]
    keys = jax.random.split(jax.random.key(1), len(requests))
    together = served(ours, requests, keys, rows=min(4, max(_ROWS)))
    each = zip(together, requests, keys)
    return all(np.array_equal(made, alone(ours, tokens, key)) for made, tokens, key in each)


def request(ours: ways.RetNets, frames: int) -> np.ndarray:
    """Tokens of a video that is wanted: its ids are FREE."""
    text = np.ones((1, ours.layout.text_tokens), np.int32)
    codes = np.full((1, frames, ours.layout.frame_tokens), FREE, np.int32)
    return pack(text, codes, key_frame_serials(frames), ours.layout)[0]


def _costs(ours: ways.RetNets, repeats: int) -> dict[tuple[str, int, int], float]:
    """Seconds of a block: (what, rows, which frame of the longest row)."""
    calls: dict[tuple[str, int, int], Callable[[], Any]] = {}
    params, graph, _ = ways.transformer(ours.config, ours.layout)
    for rows in _ROWS:
        calls["constant state", rows, 1] = _state_block(ours, rows)
        for frame in (1, FRAMES):
            for kind, places in (("KV cache", 1), ("KV cache, rows apart", rows)):
                calls[kind, rows, frame] = _cache_block(params, graph, ours, rows, frame, places)
    print(f"measuring {len(calls)} kinds of blocks, each {repeats + 1} times")
    taken = times_in_turns(calls, repeats)
    return {call: min(times) for call, times in taken.items()}


def _state_block(ours: ways.RetNets, rows: int) -> Callable[[], Any]:
    tokens = np.repeat(request(ours, 1)[None], rows, axis=0)
    keys = jax.random.split(jax.random.key(0), rows)
    model = nnx.merge(ours.graph, ours.params)
    state = jax.jit(lambda: DecodeState(model.init_state(rows), jnp.copy(keys)))  # taken over
    return lambda: made_by(ours, state(), tokens)


def _cache_block(params, graph, ours, rows: int, frame: int, places: int) -> Callable[[], Any]:
    model: Transformer = nnx.merge(graph, params)
    before = (frame - 1) * ours.layout.stride
    cache = model.init_state(rows, frame * ours.layout.stride)
    position = jnp.full((places,), before, jnp.int32)
    cache = dataclasses.replace(cache, position=position)
    text = jnp.ones((rows, ours.layout.stride - ours.layout.frame_tokens), jnp.int32)
    keys = jax.random.split(jax.random.key(0), rows)
    return functools.partial(
        cached_block, params, text, keys, cache, graph=graph, layout=ours.layout
    )


def _block_seconds(costs, kind: str, way: str) -> Callable[[int, int], float]:
    apart = "KV cache, rows apart" if (kind, way) == ("KV cache", "continuous") else kind

    def seconds(rows: int, frame: int) -> float:
        rows = next(r for r in _ROWS if r >= rows)
        first = costs[apart, rows, 1]
        last = costs.get((apart, rows, FRAMES), first)
        return first + (last - first) * (frame - 1) / (FRAMES - 1)

    return seconds


def _capacity(lengths: list[int], costs, kind: str, way: str, rows: int) -> float:
    """Requests a second where some always wait."""
    requests = [Request(0.0, frames) for frames in lengths]
    return len(requests) / max(_finished(requests, costs, kind, way, rows))


def _latencies(
    lengths: list[int], costs, kind: str, way: str, rows: int, rate: float
) -> tuple[float, float]:
    """Mean and 95th percentile, s, from arrival to the last frame."""
    gaps = np.random.default_rng(1).exponential(1 / rate, len(lengths))
    arrivals = np.cumsum(gaps)
    requests = [Request(*pair) for pair in zip(arrivals.tolist(), lengths)]
    latency = np.asarray(_finished(requests, costs, kind, way, rows)) - arrivals
    return float(latency.mean()), float(np.quantile(latency, 0.95))


def _finished(requests: list[Request], costs, kind: str, way: str, rows: int) -> list[float]:
    seconds = _block_seconds(costs, kind, way)
    return finished(requests, seconds, rows=rows, continuous=way == "continuous")
