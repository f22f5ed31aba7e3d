"""Names for what an axis is, so that models need not know how devices are arranged.

A parameter says what its axes are (`nnx.Param(value, axes=("embed", "heads"))`), an activation is
told by `constrain`. Which mesh axis carries which name is `training/mesh.py`'s business; without
a layout (sampling, tests, one device) the names do nothing.

    name         of
    rows         clips of a batch
    tokens       a sequence
    embed        the residual stream (of weights only: activations keep it whole)
    heads        retention heads, and what is made of them
    hidden       the GLU's channels
    vocabulary   ids that are read
    codes        ids that are predicted
    layers, norm, slots, levels    never cut
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from flax import nnx
from flax.traverse_util import unflatten_dict
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

Axes = tuple[str | None, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """A mesh, and the mesh axes that carry each logical name.

    Attributes:
        mesh: of the devices.
        rules: logical name to mesh axes; names that are missing are not cut.
    """

    mesh: Mesh
    rules: Mapping[str, tuple[str, ...]]

    def spec(self, axes: Axes) -> PartitionSpec:
        """Where an array with these axes lies."""
        return PartitionSpec(*(self.rules.get(name or "") for name in axes))

    def parts(self, name: str) -> int:
        """Into how many parts an axis of this name is cut."""
        parts = 1
        for axis in self.rules.get(name, ()):
            parts *= self.mesh.shape[axis]
        return parts


_layout: contextvars.ContextVar[Layout | None] = contextvars.ContextVar("layout", default=None)


@contextlib.contextmanager
def using(layout: Layout) -> Iterator[None]:
    """Trace models for this layout. It must surround the tracing, so put it inside the jit."""
    token = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(token)


def current() -> Layout | None:
    """The layout that is traced for, if any."""
    return _layout.get()


def platform() -> str:
    """What is compiled for: "cpu", "gpu" or "tpu"."""
    layout = current()
    return layout.mesh.devices.flat[0].platform if layout else jax.default_backend()


def constrain(x: Array, *axes: str | None) -> Array:
    """x with its axes named, which places it where the layout says.

    Raises:
        ValueError: not one name (or None) for every axis.
    """
    layout = current()
    if layout is None:
        return x
    if len(axes) != x.ndim:
        raise ValueError(f"got {len(axes)} names {axes} for an array of shape {x.shape}")
    return jax.lax.with_sharding_constraint(x, NamedSharding(layout.mesh, layout.spec(axes)))


def gathered(weight: Array, axes: Axes) -> Array:
    """A weight put together along the residual stream ("embed"), as a matmul needs it.

    Said here, the compiler gathers once; left to itself it cuts the matmul into one for every
    device's part, and writes the sum of them as often (twice the paper's step on a TPU).
    """
    return constrain(weight, *(None if name == "embed" else name for name in axes))


def of_params(model: nnx.Module) -> dict[str, Any]:
    """The axes of every parameter, in the shape of `nnx.to_pure_dict(nnx.state(model, Param))`.

    Stacked layers have one axis more than the layer that named its own: "layers", the first.
    """
    flat = {}
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        axes = variable.get_metadata("axes")
        flat[path] = ("layers",) * (len(variable.shape) - len(axes)) + axes
    return unflatten_dict(flat)
