"""What retention costs as the sequence grows: training forms, decoding, and softmax attention.

Three parts, all in one run of one process:

    forms    every form, value and gradient (recurrent: value, since its gradient keeps R of every
             token), at T = 512 .. 16,384: median seconds, and the compiler's own count of
             temporary memory
    decode   seconds per token of whole networks of the same widths at L = 512 and at
             16,384, measured in turns: RetNet with the plain state, with the lazy one, and
             a transformer of the same size with a KV cache
    memory   half-lives of the heads against the frames of the paper (20x20 ids and text)

Beside each decode time stands the time that its bytes would take at the machine's measured copy
speed: a decoded token must read every weight once, and read and write the state (`RetNet.step`).

    cost   three minutes on two CPU cores (estimated)
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
from tqdm import tqdm

from experiments.baselines.attention import Transformer
from experiments.timing import bandwidth, in_turns, median, parameters
from fv_jax.config.model import PRESETS, RetNetConfig
from fv_jax.files import replacing
from fv_jax.models import decode_cache
from fv_jax.models.retnet import RetNet, log_decays
from fv_jax.ops import retention
from fv_jax.ops.decay import half_life
from fv_jax.ops.retention import FORMS
from fv_jax.reporting.results import markdown, record

_HEADS, _K, _E = 4, 64, 128
_NETWORK = RetNetConfig(
    width=256, layers=4, heads=_HEADS, value_width=512, hidden=341, memory_tokens=(8.0, 8192.0),
    chunk=128,
)  # fmt: skip
_VOCABULARY, _CODES = 2048, 1024
_VALUE_ONLY = ("recurrent",)  # a gradient keeps R of every token
_TOKENS = 64  # decoded in one timed call
_BUFFER = 32  # slots of the lazy state


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and where to write the result."""

    longest: int = 16_384
    """Tokens of the longest sequence; a power of two, at least 4,096."""
    longest_parallel: int = 4096
    """The parallel form is timed up to here; its pairs need memory that grows as L squared."""
    repeats: int = 7
    """Timed calls of each; the median counts."""
    batch: int = 1
    """Rows that decode together."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""

    def __post_init__(self) -> None:
        for name in ("longest", "longest_parallel"):  # slopes need 2,048 and one more
            value = getattr(self, name)
            if value < 4096 or value & (value - 1):
                raise ValueError(f"{name} must be a power of two >= 4096, got {value}")


def run(settings: Settings) -> None:
    """Measure and record."""
    import matplotlib  # noqa: F401 - fail before measuring where the plots cannot be made

    lengths = [2**n for n in range(9, settings.longest.bit_length())]
    forms = _forms(lengths, settings)
    slopes = {
        f"{form} {what}": _slope([row for row in forms if row["form"] == form], what)
        for form in FORMS
        for what in ("seconds", "temporary_bytes")
    }
    decode = _decode(settings)
    table = "\n".join(
        [
            f"Retention alone: {_HEADS} heads, K = {_K}, E = {_E}, batch 1, chunk 128.\n",
            _form_table(forms, lengths),
            "Slope of log cost over log length, from 2,048 on (goal: chunkwise <= 1.1):\n",
            markdown(["cost", "slope"], [[k, f"{v:.2f}"] for k, v in slopes.items()]),
            f"Decoding, batch {settings.batch}: networks of {decode['parameters']:,} parameters "
            f"(RetNet) and {decode['transformer_parameters']:,} (transformer); copying moves "
            f"{decode['bandwidth'] / 1e9:.1f} GB/s here. (Below 1 in the last column: the bytes "
            "come out of the cache.)\n",
            _decode_table(decode),
            "![cost over length](retention.png)\n",
            "![half-lives](memory-range.png)\n",
        ]
    )
    (settings.out / "results").mkdir(parents=True, exist_ok=True)
    _plot_cost(forms, settings.out / "results" / "retention.png")
    _plot_memory(settings.out / "results" / "memory-range.png")
    values = {"forms": forms, "slopes": slopes, "decode": decode}
    record("retention", settings, values, table)


def _forms(lengths: list[int], settings: Settings) -> list[dict[str, Any]]:
    """One row per form and length; seconds is None where it was only compiled."""
    rows = []
    for name, length in tqdm([(n, x) for x in lengths for n in FORMS], desc="forms"):
        shapes = [(1, length, _HEADS, width) for width in (_K, _K, _E)]
        compiled = jax.jit(_form(name)).lower(
            *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
        ).compile()  # fmt: skip
        seconds = None
        if name != "parallel" or length <= settings.longest_parallel:
            keys = jax.random.split(jax.random.key(0), 3)
            inputs = [jax.random.normal(k, shape) for k, shape in zip(keys, shapes)]
            seconds = median(functools.partial(compiled, *inputs), settings.repeats)
        memory = compiled.memory_analysis()
        assert memory is not None  # every backend of JAX reports it
        rows.append({
            "form": name, "length": length, "seconds": seconds,
            "temporary_bytes": int(memory.temp_size_in_bytes),
        })  # fmt: skip
    return rows


def _form(name: str) -> Callable:
    """A function of q, k and v: value of one form, and gradients unless it is for decoding."""
    decays, options = log_decays(_NETWORK), {}
    if name == "chunkwise":
        options["chunk"] = _NETWORK.chunk

    def value(q, k, v):
        state = retention.init_state(1, _HEADS, _K, _E)
        start, length = jnp.zeros(1, jnp.int32), jnp.full(1, q.shape[1])
        return FORMS[name](q, k, v, decays, state, start, length, **options)

    if name in _VALUE_ONLY:
        return value
    return jax.value_and_grad(lambda *qkv: jnp.sum(value(*qkv)[0] ** 2), argnums=(0, 1, 2))


def _decode(settings: Settings) -> dict[str, Any]:
    """Seconds per token of every network at both lengths, and the bytes a token must move."""
    key = jax.random.key(0)
    net = jax.jit(lambda: nnx.state(RetNet(_NETWORK, _VOCABULARY, _CODES, rngs=nnx.Rngs(key))))()
    graph = nnx.graphdef(
        nnx.eval_shape(lambda: RetNet(_NETWORK, _VOCABULARY, _CODES, rngs=nnx.Rngs(key)))
    )
    other = Transformer(_NETWORK, _VOCABULARY, _CODES, rngs=nnx.Rngs(0))
    other_graph, other_params = nnx.split(other)
    rows, short, long = settings.batch, 512, settings.longest
    calls: dict[str, dict[int, Callable]] = {}
    for name, loop in {"RetNet": _plain_loop, "RetNet, lazy state": _lazy_loop}.items():
        run = jax.jit(loop, static_argnames="graph")
        calls[name] = {
            n: functools.partial(run, net, jnp.full((rows,), n - _TOKENS, jnp.int32), graph=graph)
            for n in (short, long)
        }
    run = jax.jit(_cache_loop, static_argnames=("graph", "length"))
    calls["transformer, KV cache"] = {}
    for n in (short, long):
        position = jnp.full((rows,), n - _TOKENS, jnp.int32)
        call = functools.partial(run, other_params, position, graph=other_graph, length=n)
        calls["transformer, KV cache"][n] = call
    seconds = in_turns(
        {(name, n): call for name, by in calls.items() for n, call in by.items()},
        settings.repeats,
    )
    d, layers = _NETWORK.width, _NETWORK.layers
    embedding = _VOCABULARY * d  # of which a token reads one row
    weights, other_weights = (
        4 * (parameters(net) - embedding),
        4 * (parameters(other_params) - embedding),
    )
    state = 4 * layers * _HEADS * _K * _E * rows
    recent = 4 * layers * (d + _NETWORK.value_width) * _BUFFER * rows // 2  # half full on average
    cached = 4 * layers * 2 * d * rows  # k and v of one token
    needed = {
        "RetNet": [weights + 2 * state] * 2,
        "RetNet, lazy state": [weights + state + 2 * state // _BUFFER + recent] * 2,
        "transformer, KV cache": [other_weights + n * cached for n in (short, long)],
    }
    return {
        "parameters": parameters(net),
        "transformer_parameters": parameters(other_params),
        "bandwidth": bandwidth(),
        "lengths": [short, long],
        "seconds_per_token": {
            name: [seconds[name, n] / _TOKENS for n in (short, long)] for name in calls
        },
        "needed_bytes": needed,
    }


def _plain_loop(params, position, *, graph):
    """Greedy tokens from an empty memory that claims to be at `position`: the cost is the same."""
    model = nnx.merge(graph, params)
    state = dataclasses.replace(model.init_state(position.shape[0]), position=position)

    def token(carry, _):
        ids, state = carry
        hidden, state = model.step(ids, state)
        return (jnp.argmax(model.logits(hidden), -1).astype(jnp.int32), state), None

    return jax.lax.scan(token, (jnp.zeros_like(position), state), None, _TOKENS)[0]


def _lazy_loop(params, position, *, graph):
    model = nnx.merge(graph, params)
    state = dataclasses.replace(model.init_state(position.shape[0]), position=position)
    state, decoder = decode_cache.begin(model, state, _BUFFER), model.decoder()
    one = jnp.ones_like(position)

    def block(carry, _):
        ids, state = carry

        # R is not carried through the inner loop, so nothing copies it.
        def token(carry, _):
            ids, *changing = carry
            now = dataclasses.replace(state, **dict(zip(_CHANGING, changing)))
            hidden, keys_values = decode_cache.window(decoder, ids[:, None], now)
            after = decode_cache.append(now, keys_values, one)
            ids = jnp.argmax(decoder.tables.logits(hidden[:, 0]), -1).astype(jnp.int32)
            return (ids, *(getattr(after, name) for name in _CHANGING)), None

        begin = (ids, *(getattr(state, name) for name in _CHANGING))
        (ids, *changing), _ = jax.lax.scan(token, begin, None, _BUFFER)
        now = dataclasses.replace(state, **dict(zip(_CHANGING, changing)))
        return (ids, decode_cache.fold(decoder, now)), None

    return jax.lax.scan(block, (jnp.zeros_like(position), state), None, _TOKENS // _BUFFER)[0]


_CHANGING = ("recent", "count", "position")


def _cache_loop(params, position, *, graph, length):
    model = nnx.merge(graph, params)
    cache = dataclasses.replace(model.init_state(position.shape[0], length), position=position)

    def token(carry, _):
        ids, cache = carry
        hidden, cache = model.read(ids[:, None], cache)
        return (jnp.argmax(model.logits(hidden[:, 0]), -1).astype(jnp.int32), cache), None

    (ids, cache), _ = jax.lax.scan(token, (jnp.zeros_like(position), cache), None, _TOKENS)
    return ids, cache.position


def _slope(rows: list[dict[str, Any]], what: str) -> float:
    """Least-squares slope of log `what` over log length, from 2,048 tokens on."""
    points = [(row["length"], row[what]) for row in rows if row["length"] >= 2048 and row[what]]
    x, y = np.log(np.asarray(points, float)).T
    return float(np.polyfit(x, y, 1)[0])


def _form_table(rows: list[dict[str, Any]], lengths: list[int]) -> str:
    cell = {(row["form"], row["length"]): row for row in rows}

    def show(form, length):
        row = cell[form, length]
        time_ = "not timed" if row["seconds"] is None else f"{row['seconds'] * 1e3:.1f} ms"
        return f"{time_}, {row['temporary_bytes'] / 2**20:.1f} MiB"

    named = [form if form in _VALUE_ONLY else f"{form}, with gradient" for form in FORMS]
    return markdown(["T", *named], [[str(x), *(show(form, x) for form in FORMS)] for x in lengths])


def _decode_table(decode: dict[str, Any]) -> str:
    rows = []
    for name, (short, long) in decode["seconds_per_token"].items():
        need = [b / decode["bandwidth"] for b in decode["needed_bytes"][name]]
        rows.append([
            name, f"{short * 1e3:.3f} ms", f"{long * 1e3:.3f} ms", f"{long / short:.2f}",
            f"{short / need[0]:.1f} / {long / need[1]:.1f}",
        ])  # fmt: skip
    header = ["time per token", *(f"L = {n:,}" for n in decode["lengths"]), "ratio",
              "time / time of its bytes"]  # fmt: skip
    return markdown(header, rows)


def _plot_cost(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, what, scale, label in (
        (axes[0], "seconds", 1e3, "time, ms"),
        (axes[1], "temporary_bytes", 2**-20, "temporary memory, MiB"),
    ):
        for form in FORMS:
            points = [(r["length"], r[what] * scale) for r in rows if r["form"] == form and r[what]]
            axis.loglog(*zip(*points), "o-", label=form, base=2)
        axis.set(xlabel="tokens", ylabel=label)
        axis.grid(alpha=0.3)
    axes[0].legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    plt.close(figure)


def _plot_memory(path: Path) -> None:
    """Half-lives for 20x20 ids a frame: RetNet's decays by heads, and the paper preset's range."""
    import matplotlib.pyplot as plt

    frame, stride, frames = 400, 400 + 64 + 1, 16
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    plain = {f"{h} heads": RetNetConfig(width=64 * h, heads=h, value_width=128 * h,
                                        memory_tokens=None) for h in (16, 8, 4)}  # fmt: skip
    paper = PRESETS["paper"]
    named = {**plain, f"16 heads, memory_tokens {paper.memory_tokens}": paper}
    for (name, config), marker in zip(named.items(), "ovs^"):
        # Fewer heads have the first of the same half-lives: drawn later and larger.
        lives, size = [half_life(x) for x in log_decays(config)], 12 - config.heads // 2
        axis.semilogy(np.arange(1, len(lives) + 1), lives, marker + "-", ms=size, label=name)
    marks = {"a row of a frame": 20, "a frame": frame, "two blocks (warning below)": 2 * stride,
             f"{frames} frames": frames * stride}  # fmt: skip
    for name, tokens in marks.items():
        axis.plot([0.5, 16], [tokens] * 2, color="gray", linestyle=":")
        axis.text(16.2, tokens, f"{name}: {tokens:,}", va="center", fontsize=8)
    axis.set(xlabel="head, from the shortest memory", ylabel="half-life, tokens", xlim=(0.5, 21.5),
             xticks=range(1, 17))  # fmt: skip
    axis.legend(fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    plt.close(figure)
