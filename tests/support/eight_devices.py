"""Five steps of a tiny network on meshes of eight fake CPU devices; run as a program.

Everything that the tests of `training/mesh.py` want to know is written to the .npz file named.
A process has its devices from its start on, so this cannot be done in the tests' own.
"""

import dataclasses
import sys

import jax
import numpy as np
import tiny
from flax import nnx

from fv_jax.config.training import (
    ExpectedData,
    MeshConfig,
    NetworkExperiment,
    OptimizerConfig,
    RunConfig,
)
from fv_jax.models.sharding import using
from fv_jax.sequence.skipping import compact
from fv_jax.training.mesh import bytes_per_device, make_layout, place_batch
from fv_jax.training.program import build_program
from fv_jax.training.tasks.network_loss import of_expected_data

MESHES = {
    "data 8": MeshConfig(data=8),
    "fsdp 8": MeshConfig(data=1, fsdp=8),
    "2x2x2": MeshConfig(data=2, fsdp=2, tensor=2),
    "sequence 2": MeshConfig(data=1, fsdp=2, tensor=2, sequence=2),
}
STEPS, BATCH = 5, 8
EXPERIMENT = NetworkExperiment(
    "tiny",
    # Sizes that eight devices can share; chunks that end within a device's part of a sequence.
    model=dataclasses.replace(
        tiny.NETWORK, width=16, heads=4, value_width=32, hidden=24, chunk=5, memory_tokens=(2, 60)
    ),
    optimizer=OptimizerConfig(learning_rate=0.01, warmup_steps=1),
    text_tokens=3,
    key_frames=8,
    insertions=(),
    serial_numbers=9,
    loss_chunk=4,
    expected=ExpectedData(100, (2, 2), 12, 10, (4, 3)),
)


def batch(step, blocks, stride):
    """Random tokens of the right kind; some frames have no weight."""
    rng = np.random.default_rng(step)
    codes = rng.integers(20, 32, (BATCH, blocks, stride))
    codes[:, :, :4] = rng.integers(0, 19, (BATCH, blocks, 4))
    weight = rng.integers(0, 2, (BATCH, blocks)).astype(np.float32)
    return {"tokens": codes.reshape(BATCH, -1).astype(np.int32), "weight": weight}


def short_batch(step, blocks, stride):
    """The same without a third of the ids of all frames but two, and what is predicted."""
    rng, tokens = np.random.default_rng(step), batch(step, blocks, stride)["tokens"]
    left_out = np.zeros((BATCH, blocks, stride), bool)
    left_out[:, 2:, 4:] = rng.uniform(size=(BATCH, blocks - 2, 4)) < 1 / 3
    rows = compact(tokens, left_out.reshape(BATCH, -1), (blocks - 1) * stride)
    weight = rows.real[:, 2 * stride + 1 :] & (rows.tokens[:, 2 * stride + 1 :] >= 20)
    weight = np.pad(weight, ((0, 0), (1, 1))).astype(np.float32)
    return {"tokens": rows.tokens, "positions": rows.positions, "weight": weight}


def trained(mesh, devices, make=batch, **changes):
    """The state after five steps, every step's loss, and the task's layout and program."""
    run = RunConfig(steps=10, batch_size=BATCH, mesh=mesh, accumulate=changes.pop("accumulate", 1))
    config = dataclasses.replace(EXPERIMENT, run=run, **changes)
    task = of_expected_data(config, len(devices))
    layout = make_layout(mesh, devices)
    program = build_program(task, run, config.optimizer, layout)
    state, losses = program.begin(0, None), []
    for step in range(STEPS):
        rows = make(step, task.blocks, task.sequence.stride)
        placed = place_batch(layout, rows, range(BATCH), BATCH)
        state, metrics = program.step(state, placed, {})
        losses.append(float(metrics["loss"]))
    return state, losses, program


def leaves(tree):
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)])


def with_gaps(mesh, devices):
    """Hidden vectors of rows that lack tokens, the state after them, and a gradient."""
    rng, layout = np.random.default_rng(0), make_layout(mesh, devices)
    graph, params = nnx.split(tiny.retnet(dataclasses.replace(EXPERIMENT.model, slots=7)))
    ids = rng.integers(0, 40, (4, 16)).astype(np.int32)
    positions = np.cumsum(rng.integers(1, 9, (4, 17)), axis=1).astype(np.int32)
    length = np.asarray([16, 9, 8, 3], np.int32)  # the second device's part: 8, 1, 0, 0

    @jax.jit
    def run(params):
        def loss(params):
            model = nnx.merge(graph, params)
            with using(layout):
                hidden, state = model.chunkwise(ids, model.init_state(4), length, positions)
            hidden = jax.numpy.where((np.arange(16) < length[:, None])[..., None], hidden, 0)
            return (hidden**3).sum() + (state.retention**2).sum(), (hidden, state)

        (_, outputs), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return outputs, gradient

    return leaves(run(params))


def main(path):
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_disable_most_optimizations", True)
    results = {}

    def keep(name, mesh, devices, **changes):
        state, losses, program = trained(mesh, devices, **changes)
        results[f"{name}/losses"] = np.asarray(losses)
        results[f"{name}/params"] = leaves(state.params)
        results[f"{name}/ema"] = leaves(state.ema)
        for part in ("params", "ema", "opt_state"):
            tree, where = getattr(state, part), getattr(program.shardings, part)
            held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))
            results[f"{name}/{part}_bytes"] = np.asarray(held)
            assert held == bytes_per_device(tree, where)
            assert jax.tree.all(
                jax.tree.map(lambda leaf, sharding: leaf.sharding == sharding, tree, where)
            )
        for leaf, sharding in (
            ("query", state.params["blocks"]["retention"]["qkvg"]["query"]["weight"].sharding),
            ("down", state.params["blocks"]["glu"]["down"]["weight"].sharding),
            ("head", state.params["head"].sharding),
            ("embedding", state.params["embedding"].sharding),
        ):
            results[f"{name}/{leaf}"] = np.asarray(str(tuple(sharding.spec)))

    devices = jax.devices()
    keep("one", MeshConfig(), devices[:1])
    # What is computed again on the way back is the same on any mesh.
    for name, mesh in MESHES.items():
        keep(name, mesh, devices, remat="cheap" if name == "data 8" else "none")
    results["gaps/one"] = with_gaps(MeshConfig(), devices[:1])
    results["gaps/sequence 2"] = with_gaps(MESHES["sequence 2"], devices)
    keep("short, one", MeshConfig(), devices[:1], make=short_batch)
    keep("short, sequence 2", MESHES["sequence 2"], devices, make=short_batch)
    keep("accumulate, block", MeshConfig(data=2), devices[:2], accumulate=4, remat="block")
    np.savez(path, **results)


if __name__ == "__main__":
    main(sys.argv[1])
