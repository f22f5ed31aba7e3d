"""Kernels compiled for TPUs without one. (`fv bench kernels` reads how long they would take.)"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding

from fv_jax.models import sequence_parallel, sharding
from fv_jax.models.layers import NORM_EPSILON
from fv_jax.ops.decay import log_decays
from fv_jax.ops.kernels import chunk, window
from fv_jax.planning import hlo, schedule
from fv_jax.planning.costs import described_devices, written_schedules

pytestmark = pytest.mark.tpu
H, K, E = 16, 64, 128


def compiled(topology, dtype, *, tokens=512):
    """Values and gradients of two rows."""
    on_chip = functools.partial(
        jax.ShapeDtypeStruct, sharding=SingleDeviceSharding(described_devices(topology)[0])
    )
    of_heads = lambda width: on_chip((2, tokens, H, width), jnp.dtype(dtype))
    tables = ((on_chip((2, tokens, K // 2), jnp.float32),) * 2,) * 2
    of_rows = on_chip((2,), jnp.int32)

    def both(q, k, v, state, start, length, positions, rope):
        def run(q, k, v, state):
            return chunk.chunkwise(
                q, k, v, log_decays(H), state, start, length, positions, rope,
                epsilon=NORM_EPSILON,
            )  # fmt: skip

        outputs, pull = jax.vjp(run, q, k, v, state)
        return outputs, pull(outputs)

    return jax.jit(both).lower(
        of_heads(K), of_heads(K), of_heads(E), on_chip((2, H, K, E), jnp.float32), of_rows, of_rows,
        on_chip((2, tokens), jnp.int32), tables,
    ).compile()  # fmt: skip


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("topology", ["v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
def test_forwards_and_backwards_compile(topology, dtype):
    kernels = hlo.Module(compiled(topology, dtype).as_text()).kernels()
    assert sorted(name.partition("ward")[0].rpartition("_")[2] for name in kernels) == [
        "back", "for",
    ]  # fmt: skip


def test_a_v5e_is_held_up_by_memory_alone():
    module = hlo.Module(compiled("v5e:2x2", "bfloat16", tokens=6656).as_text())
    for name, moved in module.kernels().items():
        cycles = schedule.read_kernel(written_schedules(), name).cycles
        assert cycles < 1.15 * moved / hlo.V5E.memory * hlo.V5E.clock, name


def compiled_step(topology, dtype, *, rows=8, tokens=1, slots=16):
    """The window and the fold of one layer."""
    on_chip = functools.partial(
        jax.ShapeDtypeStruct, sharding=SingleDeviceSharding(described_devices(topology)[0])
    )
    low, whole = (lambda *shape: on_chip(shape, dtype)), (lambda *shape: on_chip(shape, jnp.int32))

    def step(qkv, state, recent, at, folded, start, positions, left):
        y = window.window(
            *qkv, log_decays(H), state, *recent, at, folded, start, positions,
            epsilon=NORM_EPSILON, platform="tpu",
        )  # fmt: skip
        return y, window.fold(*recent, log_decays(H), state, left, start - folded, platform="tpu")

    return jax.jit(step, donate_argnums=1).lower(
        [low(rows, tokens, H, n) for n in (K, K, E)], on_chip((rows, H, K, E), jnp.float32),
        [low(rows, slots, H * n) for n in (K, E)], whole(rows, slots), whole(rows), whole(rows),
        whole(rows, tokens), whole(rows, slots),
    ).compile()  # fmt: skip


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("topology", ["v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
def test_a_decoding_step_compiles_and_changes_the_state_in_place(topology, dtype):
    compiled = compiled_step(topology, jnp.dtype(dtype))
    kernels = hlo.Module(compiled.as_text()).kernels()
    assert sorted(name.rpartition(".")[0] for name in kernels) == [
        "retention_fold", "retention_window",
    ]  # fmt: skip
    assert compiled.memory_analysis().alias_size_in_bytes == 8 * H * K * E * 4


@pytest.mark.parametrize(("tokens", "slots"), [(1, 16), (8, 32)])
def test_a_decoding_step_on_a_v5e_is_held_up_by_memory_alone(tokens, slots):
    module = hlo.Module(
        compiled_step("v5e:2x2", jnp.bfloat16, tokens=tokens, slots=slots).as_text()
    )
    for name, moved in module.kernels().items():
        cycles = schedule.read_kernel(written_schedules(), name).cycles
        assert cycles < moved / hlo.V5E.memory * hlo.V5E.clock, name


def test_heads_and_tokens_on_several_chips_are_kernels_of_what_each_chip_holds():
    mesh = Mesh(np.reshape(described_devices("v5e:2x2"), (2, 2)), ("tensor", "sequence"))
    layout = sharding.Layout(mesh, {"heads": ("tensor",), "tokens": ("sequence",)})
    on_chips = lambda axes, *shape, dtype=jnp.bfloat16: jax.ShapeDtypeStruct(
        shape, dtype, sharding=NamedSharding(mesh, layout.spec(axes))
    )
    by_token = ("rows", "tokens", "heads", None)
    table = on_chips(by_token[:2], 2, 1024, K // 2, dtype=jnp.float32)

    def both(q, k, v, state, start, rope):
        def run(q, k, v, state):
            arguments = q, k, v, log_decays(H), state, start, start + 1024, None, rope
            return sequence_parallel.chunkwise(*arguments, chunk=256)

        outputs, pull = jax.vjp(run, q, k, v, state)
        return outputs, pull(outputs)

    with sharding.using(layout):
        lowered = jax.jit(both).lower(
            *(on_chips(by_token, 2, 1024, H, n) for n in (K, K, E)),
            on_chips(("rows", "heads"), 2, H, K, E, dtype=jnp.float32),
            on_chips(("rows",), 2, dtype=jnp.int32),
            ((table, table), (table, table)),
        )
    module = hlo.Module(lowered.compile().as_text())
    assert len(module.kernels()) == 2
    assert "all-gather" in module.collectives()  # the states of the parts
    own = {f"bf16[2,512,{H // 2 * n}]" for n in (K, E)}
    lines = [i for lines in module.computations.values() for i in lines]
    given = [i.rest for i in lines if i.name in module.kernels()]
    assert all(shape in rest for rest in given for shape in own)
