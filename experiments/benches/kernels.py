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

    cost   five minutes on two CPU cores (estimated), and libtpu
"""

import contextlib
import dataclasses
import functools
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
from fv_jax.models.heads import in_steps
from fv_jax.models.layers import NORM_EPSILON
from fv_jax.models.retnet import Decoder, RetNet, log_decays
from fv_jax.models.tables import Tables
from fv_jax.ops import retention
from fv_jax.ops.kernels import chunk
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
    """Tokens of the row."""
    clock: bool = False
    """Run the row on this machine's device instead, and take the time."""
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
    costs = [_matmul(on_chip), *_retention(settings.tokens, on_chip)]
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
        "one row, one layer", "bundles a turn", "turns", "matrix units busy", "cycles",
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


def _retention(tokens: int, on_chip) -> list[Cost]:
    forms, arguments, bar = _forms(), *_arguments(tokens, on_chip)
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


def _forms() -> dict[str, Callable]:
    """y of a row, by each form: of q, k, v, state and RoPE's tables."""
    config = PRESETS["paper"]

    def by(form):
        def value(q, k, v, state, rope):
            start, length = jnp.zeros(1, jnp.int32), jnp.full(1, q.shape[1], jnp.int32)
            y, _ = form(q, k, v, log_decays(config), state, start, length, None, rope)
            return y

        return value

    return {
        "plain": by(in_steps(functools.partial(retention.chunkwise, chunk=config.chunk))),
        "kernel": by(functools.partial(chunk.chunkwise, epsilon=NORM_EPSILON)),
    }


def _arguments(tokens: int, make: Callable) -> tuple[tuple, Any]:
    """Those of a form, and y's gradient; `make` takes a shape and a dtype."""
    config = PRESETS["paper"]
    heads, key_dim, value_dim = config.heads, config.key_dim, config.value_dim
    of_tokens = lambda *shape: make((1, tokens, *shape), jnp.bfloat16)
    qkv = (*[of_tokens(heads, key_dim)] * 2, of_tokens(heads, value_dim))
    state = make((1, heads, key_dim, value_dim), jnp.float32)
    tables = ((make((1, tokens, key_dim // 2), jnp.float32),) * 2,) * 2
    return (*qkv, state, tables), of_tokens(heads, value_dim)


def _gradients(value: Callable) -> Callable:
    def pulled(q, k, v, state, rope, bar):
        return jax.vjp(lambda *x: value(*x, rope), q, k, v, state)[1](bar)

    return pulled


def _by_clock(settings: Settings) -> None:
    """The forms that this machine's device has, on numbers, by the clock."""
    draw = functools.partial(jax.random.normal, jax.random.key(0))
    arguments, bar = _arguments(settings.tokens, draw)
    forms = _forms()
    if jax.default_backend() != "tpu":
        del forms["kernel"]
    calls = {}
    for name, form in forms.items():
        forward, both = jax.jit(form), jax.jit(_gradients(form))
        calls[f"{name}, forwards"] = functools.partial(forward, *arguments)
        calls[f"{name}, forwards and backwards"] = functools.partial(both, *arguments, bar)
    flops, peak = forward_flops(forms["plain"], *arguments), peak_flops(jax.devices()[0])
    seconds = in_turns(calls, 20)
    rows = []
    for name, taken in seconds.items():
        speed = flops * (3 if "backwards" in name else 1) / taken
        share = f"{speed / peak:.0%}" if peak else ""
        rows.append([name, f"{taken * 1e6:.0f}", f"{speed / 1e12:.1f}", share])
    header = ["one row, one layer, by the clock", "microseconds", "TFLOP/s", "of the peak"]
    record("kernels", settings, {"seconds": seconds}, markdown(header, rows), variant="clock")


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
