"""How long retention takes on a TPU, by the schedule that its own compiler makes of the kernels.

Nothing is run. First, a row of the paper's size (6,656 tokens, 16 heads of 64 and 128) is compiled
for a v5e chip, as the kernel of `ops/kernels/` and as the plain form, each with RoPE and the head
norm. Of a kernel the schedule's bundles are read (`planning/schedule.py`), of plain JAX the
compiler's own estimates (`planning/hlo.py`). FLOPs are those of the plain form's matmuls at the
network's chunk, of 256, whatever the kernel does instead; so one share compares with the other.

The reading is checked on a matmul of 2,048 in blocks of 512, whose time is known from its shape.

Then, decoding: a step of two layers of the paper's width, with the kernels of
`ops/kernels/window.py` and without. It is held to the bytes that a step must move: the weights, R
and half of the buffer (as full as it is on average) are read, a window's q, k, v and y move once,
and so do its k and v into the buffer; once in M / W steps the fold reads the buffer, and reads and
writes R. The fold is taken as its bound in both.

`--clock` runs the same forms on this machine's device instead, and the window and the fold of one
layer. On a GPU flash-linear-attention's retention is beside them, if it is installed (the extra
`fla`, which brings PyTorch); it has neither RoPE nor head norm nor normalizer, so our kernels stand
there without the first two, too, and its values, normalized, must be ours.

    cost   five minutes on two CPU cores (estimated), and libtpu
"""

import contextlib
import dataclasses
import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import pallas as pl
from jax.sharding import Mesh, SingleDeviceSharding

from experiments.timing import in_turns
from fv_jax.config.model import PRESETS
from fv_jax.generation.window_size import buffer_size
from fv_jax.models import decode_cache, sharding
from fv_jax.models.heads import form_of_kernel, in_steps
from fv_jax.models.layers import NORM_EPSILON, rms_normalize
from fv_jax.models.retnet import Decoder, RetNet, log_decays
from fv_jax.models.tables import Tables
from fv_jax.ops import retention
from fv_jax.ops.decay import inverse_root_sum
from fv_jax.ops.kernels import chunk_gpu, window
from fv_jax.planning import hlo, schedule
from fv_jax.planning.costs import described_devices, written_schedules
from fv_jax.reporting.results import markdown, record
from fv_jax.training.accelerators import find_accelerator, peak_flops
from fv_jax.training.flops import forward_flops

_BLOCK = 512
_LAYERS, _CODES = 2, 20_000  # of the network that decodes
_DECODED = ((8, 1), (64, 1), (64, 8))  # rows, tokens of a window


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to compile, and where to write it."""

    tokens: int = 6656
    """Tokens of a row."""
    rows: int = 1
    """Rows at once."""
    clock: bool = False
    """Run the row on this machine's device instead, and take the time."""
    repeats: int = 20
    """Timed calls of each form by the clock; the median counts."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one form, forwards or backwards.

    Attributes:
        name: of the form.
        flops: that the plain form needs.
        cycles: of the schedule, alone.
        moved: bytes read and written; None where the compiler's estimate has them in it.
        kernel: what was read of one; None for plain JAX.
    """

    name: str
    flops: int
    cycles: float
    moved: int | None
    kernel: schedule.Kernel | None

    @property
    def seconds(self) -> float:
        """By cycles or by bytes, whichever takes longer."""
        return max(self.cycles / hlo.V5E.clock, (self.moved or 0) / hlo.V5E.memory)


@dataclasses.dataclass(frozen=True)
class Step:
    """Of decoding.

    Attributes:
        rows / tokens / slots: B, W and M.
        kernels: whether there were any.
        moved: bytes of a step, its part of a fold included.
        retention: of these, what is not the weights.
        bound / retention_bound: what must be moved.
    """

    rows: int
    tokens: int
    slots: int
    kernels: bool
    moved: float
    retention: float
    bound: float
    retention_bound: float


def run(settings: Settings) -> None:
    """Compile and record."""
    if settings.clock:
        _by_clock(settings)
        return
    chip = described_devices("v5e:2x2")[0]
    on_chip = functools.partial(jax.ShapeDtypeStruct, sharding=SingleDeviceSharding(chip))
    costs = [_matmul(on_chip), *_retention(settings, on_chip)]
    peak = _peak()
    rows = [
        [
            cost.name,
            cost.kernel.turn if cost.kernel else "",
            cost.kernel.turns if cost.kernel else "",
            f"{cost.kernel.busy['MXU']:.0%}" if cost.kernel else "",
            round(cost.cycles),
            f"{cost.moved / hlo.V5E.memory * hlo.V5E.clock:.0f}" if cost.moved else "",
            f"{cost.seconds * 1e6:.0f}",
            f"{cost.flops / cost.seconds / 1e12:.0f}",
            f"{cost.flops / cost.seconds / peak:.0%}",
        ]
        for cost in costs
    ]
    header = [
        f"{_rows(settings)}, one layer", "bundles a turn", "turns", "matrix units busy", "cycles",
        "cycles of its bytes", "microseconds", "TFLOP/s", "of the peak",
    ]  # fmt: skip
    steps = [_step(*size, kernels, chip) for size in _DECODED for kernels in (False, True)]
    decoded = [
        [
            "kernels" if step.kernels else "plain", step.rows, step.tokens, step.slots,
            f"{step.moved / 1e6:.1f}", f"{step.moved / step.bound:.2f}",
            f"{step.retention / 1e6:.1f}", f"{step.retention / step.retention_bound:.2f}",
        ]
        for step in steps
    ]  # fmt: skip
    decoded_header = [
        f"decoding, {_LAYERS} layers", "rows", "window", "slots", "MB a step", "of the bound",
        "without the weights", "of its bound",
    ]  # fmt: skip
    table = markdown(header, rows) + "\n" + markdown(decoded_header, decoded)
    values = {
        "costs": [dataclasses.asdict(cost) | {"seconds": cost.seconds} for cost in costs],
        "steps": [dataclasses.asdict(step) for step in steps],
    }
    record("kernels", settings, values, table)


def _peak() -> float:
    chip = find_accelerator("TPU v5e")
    assert chip is not None
    return chip.peak_flops


def _matmul(on_chip) -> Cost:
    side = 4 * _BLOCK

    def block(a, b, c):
        c[...] = jnp.dot(a[...], b[...], preferred_element_type=jnp.float32).astype(c.dtype)

    def matmul(a, b):
        return pl.pallas_call(
            block,
            grid=(side // _BLOCK, side // _BLOCK),
            in_specs=[
                pl.BlockSpec((_BLOCK, side), lambda i, j: (i, 0)),
                pl.BlockSpec((side, _BLOCK), lambda i, j: (0, j)),
            ],
            out_specs=pl.BlockSpec((_BLOCK, _BLOCK), lambda i, j: (i, j)),
            out_shape=jax.ShapeDtypeStruct((side, side), jnp.bfloat16),
            name="plain_matmul",
        )(a, b)

    square = on_chip((side, side), jnp.bfloat16)
    (cost,) = _kernels(matmul, (square, square), {"plain_matmul": ("matmul", 2 * side**3)})
    return cost


def _rows(settings: Settings) -> str:
    return "one row" if settings.rows == 1 else f"{settings.rows} rows"


def _retention(settings: Settings, on_chip) -> list[Cost]:
    forms, arguments, bar = _forms("tpu"), *_arguments(settings, on_chip)
    flops = forward_flops(forms["plain"], *arguments)
    forward = _plain_cycles(forms["plain"], arguments)
    both = _plain_cycles(_gradients(forms["plain"]), (*arguments, bar))
    return [
        Cost("plain, forwards", flops, forward, None, None),
        Cost("plain, forwards and backwards", 3 * flops, both, None, None),
        *_kernels(
            _gradients(forms["kernel"]),
            (*arguments, bar),
            {
                "retention_forward": ("kernel, forwards", flops),
                "retention_backward": ("kernel, backwards", 2 * flops),
            },
        ),
    ]


def _forms(platform: str) -> dict[str, Callable]:
    """y of rows, by each form that a platform has: of q, k, v, state and RoPE's tables."""
    config = PRESETS["paper"]

    def by(form):
        def value(q, k, v, state, rope):
            start, length = jnp.zeros(len(q), jnp.int32), jnp.full(len(q), q.shape[1], jnp.int32)
            y, _ = form(q, k, v, log_decays(config), state, start, length, None, rope)
            return y

        return value

    forms = {"plain": by(in_steps(functools.partial(retention.chunkwise, chunk=config.chunk)))}
    if platform in ("gpu", "tpu"):
        forms["kernel"] = by(form_of_kernel(platform))
    if platform == "gpu":
        forms["kernel, retention alone"] = by(lambda *x: chunk_gpu.chunkwise(*x[:-1]))
    return forms


def _arguments(settings: Settings, make: Callable) -> tuple[tuple, Any]:
    """Those of a form, and y's gradient; `make` takes a shape and a dtype."""
    config, rows = PRESETS["paper"], settings.rows
    heads, key_dim, value_dim = config.heads, config.key_dim, config.value_dim
    of_tokens = lambda *shape: make((rows, settings.tokens, *shape), jnp.bfloat16)
    qkv = (*[of_tokens(heads, key_dim)] * 2, of_tokens(heads, value_dim))
    state = make((rows, heads, key_dim, value_dim), jnp.float32)
    tables = ((make((rows, settings.tokens, key_dim // 2), jnp.float32),) * 2,) * 2
    return (*qkv, state, tables), of_tokens(heads, value_dim)


def _gradients(value: Callable) -> Callable:
    def pulled(q, k, v, state, rope, bar):
        return jax.vjp(lambda *x: value(*x, rope), q, k, v, state)[1](bar)

    return pulled


def _by_clock(settings: Settings) -> None:
    """The forms that this machine's device has, on numbers, by the clock."""
    draw, platform = functools.partial(jax.random.normal, jax.random.key(0)), sharding.platform()
    arguments, bar = _arguments(settings, draw)
    forms, calls = _forms(platform), {}
    for name, form in forms.items():
        forward, both = jax.jit(form), jax.jit(_gradients(form))
        calls[f"{name}, forwards"] = functools.partial(forward, *arguments)
        calls[f"{name}, forwards and backwards"] = functools.partial(both, *arguments, bar)
    if platform == "gpu" and importlib.util.find_spec("fla"):
        alone = jax.jit(forms["kernel, retention alone"])
        calls |= _flash_linear_attention(*arguments[:3], bar, y=alone(*arguments))
    flops, peak = forward_flops(forms["plain"], *arguments), peak_flops(jax.devices()[0])
    seconds, rows = in_turns(calls, settings.repeats), []
    for name, taken in seconds.items():
        speed = flops * (3 if "backwards" in name else 1) / taken
        share = f"{speed / peak:.0%}" if peak else ""
        rows.append([name, f"{taken * 1e6:.0f}", f"{speed / 1e12:.1f}", share])
    header = [f"{_rows(settings)}, one layer, by the clock", "us", "TFLOP/s", "of the peak"]
    decoding = in_turns(_decoding(platform, draw), settings.repeats)
    table = markdown(
        ["decoding, one layer", "us"], [[name, f"{x * 1e6:.0f}"] for name, x in decoding.items()]
    )
    values = {"seconds": seconds, "decoding": decoding}
    record("kernels", settings, values, markdown(header, rows) + "\n" + table, variant="clock")


def _flash_linear_attention(q, k, v, y_bar, *, y) -> dict[str, Callable]:
    """Its chunkwise retention on the same numbers.

    Raises:
        ValueError: its values, normalized, are not `y`.
    """
    import torch
    from fla.ops.simple_gla import chunk_simple_gla  # its retention has RetNet's decays alone

    inputs = [torch.from_dlpack(x).clone().requires_grad_() for x in (q, k, v)]
    log_decay = jnp.asarray(log_decays(PRESETS["paper"]), jnp.float32)
    given, decays = torch.from_dlpack(y_bar), torch.from_dlpack(log_decay)

    def forward():
        with torch.no_grad():
            out = chunk_simple_gla(*inputs, g_gamma=decays, scale=1.0)[0]
        torch.cuda.synchronize()
        return out

    def both():
        out = chunk_simple_gla(*inputs, g_gamma=decays, scale=1.0)[0]
        gradients = torch.autograd.grad(out, inputs, given)
        torch.cuda.synchronize()
        return gradients

    scale = inverse_root_sum(log_decay, jnp.arange(q.shape[1]))[..., None]
    theirs = jnp.from_dlpack(forward().float().contiguous()) * scale
    off = float(jnp.linalg.norm(theirs - y) / jnp.linalg.norm(theirs))
    if off > 0.02:
        raise ValueError(f"flash-linear-attention's values are {off:.1%} away from ours")
    return {
        "flash-linear-attention, forwards": forward,
        "flash-linear-attention, forwards and backwards": both,
    }


def _decoding(platform: str, draw: Callable) -> dict[str, Callable]:
    """The window and the fold of one layer, by every form that the platform has."""
    config, calls = PRESETS["paper"], {}
    heads, key_dim, value_dim = config.heads, config.key_dim, config.value_dim
    gammas = log_decays(config)

    def plain(q, k, v, state, recent, at, folded, start):
        y = retention.window(q, k, v, gammas, state, *recent, at, folded, start)
        left = start[:, None] - 1 - at
        return rms_normalize(y), retention.fold_slots(*recent, gammas, state, left, start - folded)

    def kernel(q, k, v, state, recent, at, folded, start):
        flat = [x.reshape(*x.shape[:2], -1) for x in recent]
        y = window.window(
            q, k, v, gammas, state, *flat, at, folded, start, epsilon=NORM_EPSILON,
            platform=platform,
        )  # fmt: skip
        left = start[:, None] - 1 - at
        after = window.fold(*flat, gammas, state, left, start - folded, platform=platform)
        return y, after

    for rows, tokens in _DECODED:
        slots = buffer_size(tokens, platform) or 16
        of = lambda n, *shape, rows=rows: draw((rows, n, heads, *shape), jnp.bfloat16)
        qkv = of(tokens, key_dim), of(tokens, key_dim), of(tokens, value_dim)
        state, recent = (
            draw((rows, heads, key_dim, value_dim)), (of(slots, key_dim), of(slots, value_dim)),
        )  # fmt: skip
        at = jnp.broadcast_to(jnp.arange(slots), (rows, slots))
        folded, start = jnp.zeros(rows, jnp.int32), jnp.full(rows, slots, jnp.int32)
        forms = {"plain": plain} | ({"kernels": kernel} if platform != "cpu" else {})
        for name, form in forms.items():
            call = functools.partial(jax.jit(form), *qkv, state, recent, at, folded, start)
            calls[f"{name}: {rows} rows, a window of {tokens} and a fold of {slots}"] = call
    return calls


def _step(rows: int, tokens: int, kernels: bool, chip) -> Step:
    """One step alone: in a loop the compiler keeps some weights of so few layers on the chip."""
    config = dataclasses.replace(PRESETS["paper"], layers=_LAYERS)
    make = lambda: RetNet(config, _CODES + 1000, _CODES, rngs=nnx.Rngs(0))
    graph, params = nnx.split(nnx.eval_shape(make))
    slots = buffer_size(tokens, "tpu")
    layout = sharding.Layout(Mesh(np.asarray([chip]), ("data",)), {})
    graphs = []

    def prepared(params):
        model = nnx.merge(graph, params)
        decoder = model.decoder()
        apart, weights = nnx.split([*decoder.blocks, decoder.norm])
        graphs[:] = [apart]
        tables = decoder.tables
        lazy = decode_cache.begin(model, model.init_state(rows), slots)
        return nnx.to_pure_dict(weights), tables.embedding, tables.head, lazy

    def step(weights, embedding, head, lazy, ids, kept):
        *blocks, norm = nnx.merge(*graphs, weights)
        tables = Tables(embedding, None, head, None, config.matmul_dtype)
        decoder = Decoder(config, tables, tuple(blocks), norm)
        hidden, new = decode_cache.window(decoder, ids, lazy)
        lazy = decode_cache.commit(decoder, lazy, new, kept)
        return jnp.argmax(tables.logits(hidden), axis=-1), lazy

    on_chip = functools.partial(jax.ShapeDtypeStruct, sharding=SingleDeviceSharding(chip))
    given = jax.eval_shape(prepared, nnx.to_pure_dict(params))
    weights, embedding, head, lazy = jax.tree.map(lambda x: on_chip(x.shape, x.dtype), given)
    ids, kept = on_chip((rows, tokens), jnp.int32), on_chip((rows,), jnp.int32)
    # Without a layout the platform is the machine's own, which has no kernels.
    with sharding.using(layout) if kernels else contextlib.nullcontext():
        jitted = jax.jit(step, donate_argnums=3)
        lowered = jitted.lower(weights, embedding, head, lazy, ids, kept)
    module = hlo.Module(lowered.compile().as_text())
    read = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((weights, head)))
    keys, values = config.heads * config.key_dim, config.heads * config.value_dim
    state = 4 * rows * keys * config.value_dim
    buffer, window = (2 * rows * n * (keys + values) for n in (slots, tokens))
    fold = _LAYERS * (2 * state + buffer) * tokens / slots
    bound = _LAYERS * (state + buffer / 2 + 3 * window) + fold
    moved = module.moved() + fold
    return Step(rows, tokens, slots, kernels, moved, moved - read, bound + read, bound)


def _plain_cycles(function, arguments) -> float:
    module = hlo.Module(jax.jit(function).lower(*arguments).compile().as_text())
    return module.times(hlo.V5E, {}.__getitem__).total * hlo.V5E.clock


def _kernels(function, arguments, names: dict[str, tuple[str, int]]) -> list[Cost]:
    """Of the kernels in a program; `names` has what each is called here, and its FLOPs."""
    module = hlo.Module(jax.jit(function).lower(*arguments).compile().as_text())
    costs = []
    for instruction, moved in module.kernels().items():
        name, flops = next(names[key] for key in names if key in instruction)
        kernel = schedule.read_kernel(written_schedules(), instruction)
        costs.append(Cost(name, flops, kernel.cycles, moved, kernel))
    return costs
