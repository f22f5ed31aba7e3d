"""Batches of one size for a jitted function, spread over devices, however many rows come.

    rows     a b c d e f g          gathered as they come
    batches  [a b c] [d e f] [g . .]   the last one is filled up, and what filled it thrown away
    devices  each batch is cut along its first axis, one part for every device

One compiled program does for all, so a score does not depend on the rows beside it, but for the
rounding of a convolution in a batch of another size. While a batch is computed the next one is
gathered: results are fetched one batch late.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fv_jax.batching import filled


def on_every(state: Any, devices: Sequence[jax.Device] | None = None) -> Any:
    """Arrays with a copy on each device, all of this process by default.

    What is given to several `DeviceBatches` is copied once, and not by each.
    """
    return jax.device_put(state, NamedSharding(_mesh(devices), PartitionSpec()))


def _mesh(devices: Sequence[jax.Device] | None) -> Mesh:
    return Mesh(np.asarray(devices or jax.local_devices()), ("rows",))


class DeviceBatches:
    """Gathers rows, and hands the results of full batches on.

    Args:
        function: jitted; gets `state` and an array [B, ...] for every column, gives a tree of
            arrays [B, ...], each row of its own row.
        state: what it needs beside, such as weights; copied to every device once.
        consume: gets each batch's results as a tree of NumPy arrays, in order, without the rows
            that only filled up.
        size: rows on each device at a time.
        devices: all of this process by default.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self,
        function: Callable,
        state: Any,
        consume: Callable[[Any], None],
        *,
        size: int,
        devices: Sequence[jax.Device] | None = None,
    ):
        if size < 1:
            raise ValueError(f"batch must be >= 1, got {size}")
        mesh = _mesh(devices)
        self._devices, self._size = mesh.size, size * mesh.size
        self._spread = NamedSharding(mesh, PartitionSpec("rows"))
        self._function, self._consume = function, consume
        self._state = on_every(state, devices)
        self._rows: list[tuple[np.ndarray, ...]] = []
        self._running: tuple[Any, int] | None = None
        self._any_full = False

    def add(self, *row: np.ndarray) -> None:
        """One array for every column, of the same shapes each time."""
        self._rows.append(row)
        if len(self._rows) == self._size:
            self._any_full = True
            self._start(self._size)

    def finish(self) -> None:
        """Compute and hand on what is left."""
        if self._rows:
            # Where there is no other batch there is no program yet that wants the full size.
            least = -(-len(self._rows) // self._devices) * self._devices
            self._start(self._size if self._any_full else least)
        self._fetch()

    def _start(self, size: int) -> None:
        count = len(self._rows)
        columns = zip(*filled(self._rows, size))
        placed = [jax.device_put(np.stack(column), self._spread) for column in columns]
        self._rows = []
        # Otherwise GPUs and TPUs would round to TF32 or bfloat16.
        with jax.default_matmul_precision("highest"):
            results = self._function(self._state, *placed)
        self._fetch()
        self._running = results, count

    def _fetch(self) -> None:
        if self._running:
            results, count = self._running
            self._running = None
            self._consume(jax.tree.map(lambda x: np.asarray(x)[:count], results))
