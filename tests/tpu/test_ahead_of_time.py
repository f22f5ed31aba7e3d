"""Compiled for a real TPU slice (v5e, 2x4 chips) without one: bytes per chip, no collectives.

Run with `./launch.sh test-tpu`, which installs libtpu (200 MB) beside the rest.
"""

import functools
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fv_jax.config.model import RetNetConfig
from fv_jax.models.retnet import RetNet
from fv_jax.ops import retention
from fv_jax.ops.decay import log_decays

pytestmark = pytest.mark.tpu

B, T, H, K, E = 4, 512, 8, 64, 128
CHIPS = 8
COLLECTIVE = re.compile(r"all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter")


@functools.cache
def chips() -> Mesh:
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    slice_ = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4")
    return Mesh(np.asarray(slice_.devices).reshape(1, CHIPS), ("data", "tensor"))


def of_heads(*shape, dtype=jnp.bfloat16, head_axis=-2):
    """An array whose heads lie on different chips."""
    axes = [None] * len(shape)
    axes[head_axis] = "tensor"
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(chips(), PartitionSpec(*axes)))


def placed(tree, spec=PartitionSpec()):
    sharding = NamedSharding(chips(), spec)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def size(*structs):
    return sum(x.size * x.dtype.itemsize for x in structs)


def test_chunkwise_with_gradients_needs_no_collective_when_heads_are_sharded():
    inputs = of_heads(B, T, H, K), of_heads(B, T, H, K), of_heads(B, T, H, E)

    def block(q, k, v):
        def form(q, k, v):
            state, start = retention.init_state(B, H, K, E), jnp.zeros(B, jnp.int32)
            return retention.chunkwise(q, k, v, log_decays(H), state, start, start + T, 128)[0]

        y, pull = jax.vjp(form, q, k, v)
        return y, pull(y)

    out = of_heads(B, T, H, 1).sharding
    compiled = jax.jit(block, out_shardings=(out, (out,) * 3)).lower(*inputs).compile()
    assert COLLECTIVE.findall(compiled.as_text()) == []
    assert compiled.memory_analysis().argument_size_in_bytes == size(*inputs) // CHIPS


def test_a_decode_step_needs_no_collective_when_heads_are_sharded():
    state = of_heads(B, H, K, E, dtype=jnp.float32, head_axis=1)
    position = placed(jax.ShapeDtypeStruct((B,), jnp.int32))
    tokens = of_heads(B, H, K), of_heads(B, H, K), of_heads(B, H, E)
    step = lambda q, k, v, r, n: retention.step(q, k, v, log_decays(H), r, n)
    compiled = (
        jax.jit(step, out_shardings=(tokens[2].sharding, state.sharding), donate_argnums=3)
        .lower(*tokens, state, position)
        .compile()
    )
    assert COLLECTIVE.findall(compiled.as_text()) == []
    memory = compiled.memory_analysis()
    assert memory.alias_size_in_bytes == size(state) // CHIPS  # updated in place
    per_chip = (size(*tokens) + size(state)) // CHIPS
    # Beside its heads a chip holds the positions, padded to the least that a buffer takes.
    assert per_chip < memory.argument_size_in_bytes <= per_chip + 4096


def test_training_and_decoding_compile_for_the_slice():
    config = RetNetConfig(
        width=256, layers=4, heads=4, value_width=512, hidden=344, chunk=128,
        matmul_dtype="bfloat16",
    )  # fmt: skip
    make = lambda: RetNet(config, 1000, 500, rngs=nnx.Rngs(0))
    graph, params = nnx.split(nnx.eval_shape(make))
    params = nnx.to_pure_dict(params)

    def gradients(params, ids):
        def loss(params):
            model = nnx.merge(graph, params)
            hidden, _ = model.chunkwise(ids, model.init_state(ids.shape[0]))
            return jnp.mean(model.logits(hidden) ** 2)

        return jax.grad(loss)(params)

    def step(params, ids, state):
        hidden, state = nnx.merge(graph, params).step(ids, state)
        return jnp.argmax(nnx.merge(graph, params).logits(hidden), -1), state

    by_row = PartitionSpec("tensor")  # data parallel over all eight chips
    ids = placed(jax.ShapeDtypeStruct((CHIPS, T), jnp.int32), by_row)
    trained = jax.jit(gradients).lower(placed(params), ids).compile()
    weights = size(*jax.tree.leaves(params))
    got = trained.memory_analysis().argument_size_in_bytes
    assert weights <= got <= 1.02 * weights + size(ids)
    assert COLLECTIVE.findall(trained.as_text())  # the gradients of the rows are summed

    model = tiny.randomised(make)
    state = jax.eval_shape(lambda: model.init_state(CHIPS))
    state = state.replace(
        retention=placed(state.retention, PartitionSpec(None, "tensor")),
        position=placed(state.position, by_row),
    )
    one = placed(jax.ShapeDtypeStruct((CHIPS,), jnp.int32), by_row)
    decoded = jax.jit(step, donate_argnums=2).lower(placed(params), one, state).compile()
    # Rows are independent of each other: nothing is sent from chip to chip.
    assert COLLECTIVE.findall(decoded.as_text()) == []
    assert decoded.memory_analysis().alias_size_in_bytes >= size(state.retention) // CHIPS
