"""Batches of rows (`data/rows.py`) from clips of ids, through grain.

The order and every random choice are functions of the seed and of a row's number; the iterator's
position, a number of batches, is part of each checkpoint. A resumed run therefore sees exactly
the rows that an uninterrupted one would, whatever the number of threads, worker processes or
processes of the run is before and after.
"""

import copy
import dataclasses
import threading
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import grain
import numpy as np
from jaxtyping import UInt16

from fv_jax.data.rows import RowMaker

_ENOUGH = 2**53  # rows; grain counts batches in floats, and overflows with a row each
_SORTED = 8  # batches of changes
_ONE_MAKES = threading.Lock()


@runtime_checkable
class Clips(Protocol):
    """Clips as ids: cached ones (`token_cache.py`), or made on the fly (`live.py`)."""

    def __len__(self) -> int: ...

    def draw(self, index: int, rng: np.random.Generator) -> tuple[str, UInt16[np.ndarray, "F P"]]:
        """Text and ids of a clip; where clips are augmented, differently at every draw."""
        ...


class Batches(grain.DatasetIterator):
    """An iterator whose state is the number of batches taken.

    Args:
        dataset: batches by number, each a function of its number alone.
        threads: the number of threads that make them ahead of time.
        workers: the number of processes that do so instead; 0 for none.
    """

    def __init__(self, dataset: grain.MapDataset, *, threads: int = 1, workers: int = 0):
        super().__init__()
        self._dataset, self._threads, self._workers = dataset, threads, workers
        self._taken, self._iterator = 0, None

    def __next__(self) -> Any:
        if self._iterator is None:
            self._iterator = iter(self._ahead(self._dataset[self._taken :]))
        batch = next(self._iterator)
        self._taken += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        """Where the next batch is."""
        return {"batches": self._taken}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go there."""
        self._taken, self._iterator = int(state["batches"]), None

    def _ahead(self, dataset: grain.MapDataset) -> grain.IterDataset:
        if not self._workers:
            options = grain.ReadOptions(num_threads=self._threads, prefetch_buffer_size=64)
            return dataset.to_iter_dataset(options)
        from absl import flags

        if not flags.FLAGS.is_parsed():  # grain's workers read one that only absl programs have
            flags.FLAGS.mark_as_parsed()
        read = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
        return dataset.to_iter_dataset(read).mp_prefetch(
            grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=4)
        )


def training_batches(
    clips: Clips,
    rows: RowMaker,
    *,
    seed: int,
    batch_size: int,
    own: Sequence[int] | None = None,
    threads: int = 1,
    workers: int = 0,
) -> Batches:
    """Shuffled batches without end; every clip comes once an epoch, each epoch in another order.

    Args:
        clips: the clips to draw from.
        rows: makes a row of a clip.
        seed: decides the order and all random choices.
        batch_size: the rows of all processes together.
        own: those rows of every batch that are made here; None for all.
        threads: the number of threads that make batches ahead of time.
        workers: the number of processes that do so instead; 0 for none.
    """
    every = (
        grain.MapDataset.range(len(clips)).seed(seed).shuffle().repeat().random_map(_Draw(clips))
    )  # fmt: skip
    own = range(batch_size) if own is None else own
    of = _RowsOfChanges if rows.experiment.changes else _Rows
    drawn = of(every, batch_size, own, rows, seed)
    dataset = grain.MapDataset.source(drawn).batch(len(own))
    return Batches(dataset, threads=threads, workers=workers)


@dataclasses.dataclass(frozen=True)
class OwnRows:
    """Some rows of every batch, by number: what one of several processes makes.

    Attributes:
        every: the rows of all batches, one batch after the other.
        batch_size: the number of rows of a batch.
        own: the numbers of those rows of a batch that are wanted.
    """

    every: grain.MapDataset
    batch_size: int
    own: Sequence[int]

    def __len__(self) -> int:
        return min(len(self.every), _ENOUGH) // self.batch_size * len(self.own)

    def __getitem__(self, index: int) -> Any:
        batch, row = divmod(int(index), len(self.own))
        return self.every[batch * self.batch_size + self.own[row]]


@dataclasses.dataclass(frozen=True)
class _Rows(OwnRows):
    """Rows made of clips, all of a batch of the kind that the seed gives it."""

    rows: RowMaker
    seed: int

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        clip, rng = super().__getitem__(index)
        batch = int(index) // len(self.own)
        return self.rows(clip, rng, self.rows.kind(np.random.default_rng((self.seed, batch))))


@dataclasses.dataclass(frozen=True)
class _RowsOfChanges(_Rows):
    """Likewise; those of eight batches are of one kind, and sorted by what they need.

    Every process makes the rows of all.
    """

    newest: dict[int, list[list[dict[str, np.ndarray]]]] = dataclasses.field(default_factory=dict)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        batch, row = divmod(int(index), len(self.own))
        group, place = divmod(batch, _SORTED)
        with _ONE_MAKES:  # threads that make batches ahead of time want the same ones
            if group not in self.newest:
                made = self._made(group)
                self.newest.clear()
                self.newest[group] = made
            return self.newest[group][place][self.own[row]]

    def _made(self, group: int) -> list[list[dict[str, np.ndarray]]]:
        rng, size = np.random.default_rng((self.seed, group)), _SORTED * self.batch_size
        kind, rows = self.rows.kind(rng), []
        for clip, own in (self.every[n] for n in range(group * size, (group + 1) * size)):
            rows.append(self.rows(clip, own, kind))
        made = self.rows.batches_of(rows, kind, self.batch_size)
        return [made[n] for n in rng.permutation(_SORTED)]


@dataclasses.dataclass(frozen=True)
class _Draw:
    """Number of a clip to the clip, and the generator that goes on drawing for its row.

    It is a copy, since grain uses the one it hands out for other rows. Not a lambda: worker
    processes are sent it.
    """

    clips: Clips

    def __call__(self, index: int, rng: np.random.Generator) -> tuple[Any, np.random.Generator]:
        return self.clips.draw(int(index), rng), copy.deepcopy(rng)
