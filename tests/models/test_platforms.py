"""One program for every platform: lowered for CUDA and TPU here, run on the CPU."""

import jax
import jax.numpy as jnp
import pytest
import tiny
from flax import nnx

from fv_jax.models import decode_cache

B, T = 2, 12


def programs():
    graph, params = nnx.split(tiny.retnet(vocabulary=40, codes=12))
    params = nnx.to_pure_dict(params)
    model = nnx.merge(graph, params)
    state, ids = model.init_state(B), jnp.ones((B, T), jnp.int32)

    def training_block(params, ids):
        def loss(params):
            model = nnx.merge(graph, params)
            return jnp.sum(model.logits(model.chunkwise(ids, model.init_state(B))[0]) ** 2)

        return jax.value_and_grad(loss)(params)

    def decode_step(params, ids, state):
        model = nnx.merge(graph, params)
        hidden, state = model.step(ids[:, 0], state)
        return model.logits(hidden), state.retention, state.position

    def lazy_step(params, ids, state):
        model = nnx.merge(graph, params)
        lazy = decode_cache.begin(model, state, 4)
        decoder = model.decoder()
        hidden, keys_values = decode_cache.window(decoder, ids[:, :3], lazy)
        lazy = decode_cache.commit(decoder, lazy, keys_values, jnp.array([1, 3]))
        after = decode_cache.settle(decoder, lazy)
        return decoder.tables.logits(hidden), after.retention, after.position

    return {
        "training block": (training_block, (params, ids)),
        "decode step": (decode_step, (params, ids, state)),
        "lazy step": (lazy_step, (params, ids, state)),
    }


def of_leaves(function, treedef):
    """`function` of leaves: an exported program knows no classes of ours."""
    return jax.jit(lambda *leaves: function(*jax.tree.unflatten(treedef, leaves)))


@pytest.mark.parametrize("name", ["training block", "decode step", "lazy step"])
def test_one_exported_program_serves_cpu_cuda_and_tpu(name):
    function, arguments = programs()[name]
    leaves, treedef = jax.tree.flatten(arguments)
    one = of_leaves(function, treedef)
    exported = jax.export.export(one, platforms=["cpu", "cuda", "tpu"])(*leaves)
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}
    tiny.assert_close(exported.call(*leaves), one(*leaves), "float32")
