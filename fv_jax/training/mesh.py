"""The mesh: which devices hold which part of the weights, the batch and the sequence.

    axis       cuts                                     costs per step
    data       rows of the batch                        one all-reduce of the gradients
    fsdp       rows, and every weight with its average  weights gathered twice, gradients
               and optimizer state                      reduce-scattered
    sequence   tokens of each row                       the state R, gathered once a layer
    tensor     heads, GLU channels, codes               activations summed twice a layer

Models name logical axes (`models/sharding.py`); RULES says which mesh axes carry them. The
compiler derives the rest (GSPMD, arXiv:2105.04663): the training step itself knows no device.
What cannot be cut evenly is not cut.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from fv_jax.config.training import MeshConfig
from fv_jax.models.sharding import Axes, Layout
from fv_jax.training.state import Params, TrainState

# From slow links to fast ones: what is most often exchanged lies on neighboring devices.
MESH_AXES = ("data", "fsdp", "sequence", "tensor")

RULES = {
    "rows": ("data", "fsdp"),
    "tokens": ("sequence",),
    "embed": ("fsdp",),
    "heads": ("tensor",),
    "hidden": ("tensor",),
    "vocabulary": ("tensor",),
    "codes": ("tensor",),
}


def resolved(config: MeshConfig, devices: int) -> MeshConfig:
    """The config with its -1 replaced by what is left.

    Raises:
        ValueError: the sizes do not make up the number of devices.
    """
    sizes = dataclasses.asdict(config)
    given = math.prod(size for size in sizes.values() if size != -1)
    for name, size in sizes.items():
        if size == -1:
            sizes[name] = devices // given
    if math.prod(sizes.values()) != devices:
        shown = " x ".join(f"{name} {size}" for name, size in dataclasses.asdict(config).items())
        raise ValueError(
            f"a mesh of {shown} does not make up {devices} devices; set --run.mesh.data and the "
            "others so that their product does, or one of them to -1"
        )
    return MeshConfig(**sizes)


def make_layout(config: MeshConfig, devices: Sequence[Any] | None = None) -> Layout:
    """The mesh over all devices (of all processes), with the rules.

    Raises:
        ValueError: as `resolved`.
    """
    devices = jax.devices() if devices is None else devices
    sizes = resolved(config, len(devices))
    shape = tuple(getattr(sizes, name) for name in MESH_AXES)
    try:
        grid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    except (NotImplementedError, AssertionError, ValueError):  # no way through this torus is known
        grid = np.asarray(devices).reshape(shape)
    mesh = Mesh(grid, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))
    return Layout(mesh, RULES)


def replicated(layout: Layout) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(layout.mesh, PartitionSpec())


def state_shardings(
    layout: Layout, state: TrainState, axes: Any, tx: optax.GradientTransformation
) -> TrainState:
    """Where every leaf of the state lies: averages and moments where their weights do.

    Args:
        layout: the run's devices and rules.
        state: abstract (shapes only).
        axes: logical axes of every parameter; None keeps the weights whole.
        tx: that made `state.opt_state`.
    """
    whole = replicated(layout)
    if axes is None:
        params = jax.tree.map(lambda _: whole, state.params)
    else:
        place = lambda leaf, names: _sharding(layout, leaf.shape, names)
        params = jax.tree.map(place, state.params, axes)
    opt_state = optax.tree_utils.tree_map_params(
        tx,
        lambda _, sharding: sharding,
        state.opt_state,
        params,
        transform_non_params=lambda _: whole,
    )
    return TrainState(whole, params, params, opt_state, whole)


def _sharding(layout: Layout, shape: tuple[int, ...], axes: Axes) -> NamedSharding:
    fits = [
        name if name and size % layout.parts(name) == 0 else None for size, name in zip(shape, axes)
    ]
    return NamedSharding(layout.mesh, layout.spec(tuple(fits)))


def bytes_per_device(tree: Any, shardings: Any) -> int:
    """Bytes of a tree of shapes on one device."""
    part = lambda leaf, sharding: (
        math.prod(sharding.shard_shape(leaf.shape)) * np.dtype(leaf.dtype).itemsize
    )
    return sum(jax.tree.leaves(jax.tree.map(part, tree, shardings)))


def check_batch(layout: Layout, batch_size: int, accumulate: int) -> None:
    """Whether every device gets rows of every part of a batch.

    Raises:
        ValueError: with got and wanted.
    """
    parts = layout.parts("rows")
    if batch_size % (parts * accumulate):
        raise ValueError(
            f"batch_size must be divisible by {parts} (data x fsdp) x {accumulate} (accumulate), "
            f"got {batch_size}; change --run.batch-size, --run.accumulate or --run.mesh"
        )


def rows_of_process(layout: Layout, batch_size: int) -> tuple[int, ...]:
    """Rows of every batch that this process's devices hold, in order.

    They need not follow each other: a TPU's mesh goes by its torus, and the chips of one machine
    are a square of it.
    """
    own = batch_sharding(layout).addressable_devices_indices_map((batch_size,))
    cuts = [index[0] for index in own.values() if index]
    return tuple(sorted({row for cut in cuts for row in range(*cut.indices(batch_size))}))


def batch_sharding(layout: Layout) -> NamedSharding:
    """How an array with a row for every clip is cut."""
    return NamedSharding(layout.mesh, layout.spec(("rows",)))


def place_batch(layout: Layout, batch: Any, rows: Sequence[int], batch_size: int) -> Any:
    """This process's rows as parts of global arrays.

    Args:
        layout: the run's devices and rules.
        batch: NumPy arrays with as many rows as `rows`.
        rows: those of the global batch that they are, as `rows_of_process` says.
        batch_size: rows of the global batch.
    """
    sharding, at = batch_sharding(layout), {row: i for i, row in enumerate(rows)}

    def place(local: np.ndarray) -> jax.Array:
        def part(index: Any) -> np.ndarray:
            first, last, _ = index[0].indices(batch_size)
            # What a device holds follows each other, so it does among `rows`.
            return local[at[first] : at[first] + last - first]

        return jax.make_array_from_callback((batch_size, *local.shape[1:]), sharding, part)

    return jax.tree.map(place, batch)


def to_host(tree: Params) -> Params:
    """Whole NumPy arrays of a sharded tree, on the first process; None elsewhere.

    All processes must call it. The arrays are copies: a step donates what it is given. Leaf by
    leaf: a device holds one whole leaf at a time, and no process runs ahead of the others, whose
    exchanges on CPUs would then wait for each other.
    """
    return jax.tree.map(_leaf_to_host, tree)


def _leaf_to_host(leaf: jax.Array) -> np.ndarray | None:
    if not leaf.is_fully_addressable:
        sharding: Sharding = leaf.sharding
        whole = NamedSharding(sharding.mesh, PartitionSpec())  # type: ignore[attr-defined]
        leaf = jax.block_until_ready(_everywhere(whole)(leaf)).addressable_data(0)
    return np.array(leaf) if jax.process_index() == 0 else None


@functools.cache
def _everywhere(whole: NamedSharding) -> Any:
    return jax.jit(lambda x: x, out_shardings=whole)
