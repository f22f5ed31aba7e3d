"""Checkpoints: written while training goes on, whole or not there, checked before they are used.

A folder per step, renamed to its number when everything in it is written:

    200/state/      arrays: weights, their average, optimizer state, step and skipped steps
    200/data/       JSON: position in the data, the same on every process
    200/config/     JSON: the experiment, with the seed
    200/shapes/     JSON: dtype and shape of every array
    200/files.json  size and CRC-32 of each of these files
    300.orbax-checkpoint-tmp/   being written, or left by a process that was killed
    100.damaged/                put aside by a run that had to fall back

The randomness of step n is `fold_in(key(seed), n)`: step and seed are its whole state.

Arrays are stored by their place in the whole array, and the position in the data counts batches of
all processes together, so neither knows the mesh nor how many processes wrote it.
"""

import contextlib
import dataclasses
import functools
import gc
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp
from etils import epath
from tqdm import tqdm

from fv_jax.config.model import to_json
from fv_jax.training import integrity
from fv_jax.training.distributed import agree, is_first, same_everywhere
from fv_jax.training.mesh import to_host
from fv_jax.training.state import TrainState

# How a full disk or a lost one shows: tensorstore raises ValueErrors, jax RuntimeErrors.
_CANNOT_WRITE = (OSError, ValueError, RuntimeError)
_TIMEOUT_S = 600  # of one save, and of waiting for a process that could not write its part


class Checkpointer:
    """Saves in the background, keeps the newest few, restores the newest that is whole.

    With several processes all of them make one for the same folder, on a file system they share,
    and call its methods at the same steps. Where they share none, each has a copy of the folder as
    it is when they begin, and the first alone writes, what it gathers from all.

    orbax's `CheckpointManager` is not used: after a save that failed it forgets checkpoints, and
    raises the old error again at the next.

    Args:
        folder: holds the checkpoints; made if need be, and cleared of saves that were cut off.
        keep: how many of the newest stay.
        keep_every: beside them those whose step is a multiple of this stay; 0 for none.
        saved: called in the background when one is whole, such as to carry it elsewhere; an
            `OSError` of it is told, and that is all.
        shared: whether the processes have one folder, and not a copy each.

    Raises:
        ValueError: the processes do not see the same checkpoints.
    """

    def __init__(
        self, folder: Path, *, keep: int, keep_every: int = 0,
        saved: Callable[[], None] = lambda: None, shared: bool = True,
    ):  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder.resolve()
        self._keep, self._keep_every, self._saved = keep, keep_every, saved
        self._first = is_first()
        self._apart = not shared and jax.process_count() > 1
        if self._first:
            integrity.remove_unfinished(self._folder)
        self._steps = sorted(int(p.name) for p in self._folder.iterdir() if p.name.isdigit())
        if not same_everywhere(integrity.sum_of(self._steps)):
            raise ValueError(
                f"the processes see different checkpoints in {folder}; the folder of a run must "
                "be on a file system that all of them share"
            )
        self._damage: dict[int, str] = {}  # of steps that were looked at; "" for none
        self._writing = -1
        self._saving: tuple[int, Future | Exception] | None = None
        self._failed: tuple[int, str] | None = None  # the last save, and why
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writer = self._new_writer()
        _leave_out_tracebacks()

    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, damaged or not; None if there is none."""
        return self._steps[-1] if self._steps else None

    def save(self, state: TrainState, data: grain.DatasetIterator, config: Any) -> None:
        """Write a checkpoint named by its step, unless that step is there already.

        Returns when the arrays are copied, and waits for the save before. A save that fails does
        not stop the training: it is told when the next begins, and what was there stays.

        Args:
            state: may be donated as soon as this returns.
            data: its position is the next batch's.
            config: an experiment.
        """
        self.wait()
        step = int(state.step)
        if step in self._steps:
            return
        tree = _tree(state)
        if self._apart:
            tree = to_host(tree)
            if not self._first:
                self._saving = step, self._thread.submit(lambda: None)
                return
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(tree),
            data=ocp.args.JsonSave(data.get_state()),
            config=ocp.args.JsonSave(to_json(config)),
            shapes=ocp.args.JsonSave(_shapes(state)),
        )
        self._writing = step
        try:
            self._writer.save(self._folder / str(step), args=items)
            self._saving = step, self._thread.submit(self._finish, step)
        except _CANNOT_WRITE as error:
            self._saving = step, error

    def wait(self) -> bool:
        """Wait for the last save; whether it was written, by every process."""
        if self._saving is not None:
            step, reason = self._outcome()
            if agree(not reason):
                steps = sorted([*self._steps, step])
                self._steps = [step for step in steps if step not in self._superfluous(steps)]
                self._failed = None
            else:
                self._give_up(step, reason or "another process could not")
        return self._failed is None

    def config(self) -> dict[str, Any]:
        """The config that the newest whole checkpoint was made with, as JSON values.

        Raises:
            ValueError: there is no checkpoint, or all are damaged.
        """
        return self._json(self._newest_whole(), "config")

    def restore(self, state: TrainState, data: grain.DatasetIterator) -> TrainState:
        """The state of the newest whole checkpoint; `data` is moved to its position.

        Newer ones are damaged: they are put aside, and stderr says so.

        Args:
            state: gives shapes, dtypes and shardings, by arrays or `jax.ShapeDtypeStruct`s; every
                array is read straight onto its sharding, whichever it was saved from.
            data: set in place.

        Raises:
            ValueError: there is no checkpoint, all are damaged, or the arrays are others.
        """
        step = self._newest_whole()
        self._check_shapes(step, _shapes(state))
        restored = ocp.StandardCheckpointHandler().restore(
            epath.Path(self._folder / str(step) / "state"),
            args=ocp.args.StandardRestore(jax.tree.map(_abstract, _tree(state))),
        )
        data.set_state(self._json(step, "data"))
        self._put_aside([other for other in self._steps if other > step], step)
        return dataclasses.replace(state, **restored)

    def close(self) -> None:
        """Wait for this process's part of the last save; others need not call it.

        Raises:
            OSError: it could not be written.
        """
        if self._saving is not None:
            step, reason = self._outcome()
            self._failed = (step, reason) if reason else None
        self._close_writer()
        self._thread.shutdown()
        if self._failed is not None:
            (step, reason), self._failed = self._failed, None
            raise OSError(
                f"the last checkpoint, at step {step}, could not be written ({reason}); "
                f"{self._newest()}; make room in {self._folder} and run the same command again"
            )

    def _new_writer(self) -> ocp.AsyncCheckpointer:
        # Where folders cannot be made, threads that wait for asynchronous ones keep the process
        # from ending for minutes. Several processes cannot do without: one would miss the others.
        who = ocp.options.MultiprocessingOptions()
        if self._apart:
            me = jax.process_index()
            who = ocp.options.MultiprocessingOptions(
                primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process {me}"
            )
        options = ocp.options.AsyncOptions(
            timeout_secs=_TIMEOUT_S,
            post_finalization_callback=self._seal,
            create_directories_asynchronously=jax.process_count() > 1 and not self._apart,
        )
        items = ocp.CompositeOptions(async_options=options, multiprocessing_options=who)
        handler = ocp.CompositeCheckpointHandler(composite_options=items)
        return ocp.AsyncCheckpointer(handler, async_options=options, multiprocessing_options=who)

    def _seal(self) -> None:
        """The first process does this when all is written but the folder's name."""
        (folder,) = self._folder.glob(f"{self._writing}{integrity.UNFINISHED}*")
        integrity.seal(folder)

    def _outcome(self) -> tuple[int, str]:
        """The step of the save under way, and when it ends why it could not be written, or ""."""
        assert self._saving is not None
        (step, saving), self._saving = self._saving, None
        error = saving.exception() if isinstance(saving, Future) else saving
        if error is not None and not isinstance(error, _CANNOT_WRITE):
            raise error
        return step, _reason(error) if error else ""

    def _finish(self, step: int) -> None:
        self._writer.wait_until_finished()
        if self._first:
            for old in self._superfluous(sorted([*self._steps, step])):
                integrity.remove(self._folder / str(old))
        try:
            self._saved()
        except OSError as error:
            _say(f"{error}; training goes on")

    def _superfluous(self, steps: list[int]) -> list[int]:
        every = self._keep_every
        return [step for step in steps[: -self._keep] if not every or step % every]

    def _give_up(self, step: int, reason: str) -> None:
        self._failed = step, reason
        self._close_writer()
        self._writer = self._new_writer()  # the old one would raise its errors again
        if self._first:
            _say(
                f"the checkpoint at step {step} could not be written ({reason}); training goes "
                f"on, {self._newest()}"
            )

    def _close_writer(self) -> None:
        with contextlib.suppress(*_CANNOT_WRITE):
            self._writer.close()
        if self._failed is not None:
            gc.collect()  # tasks that nobody waits for any more complain now, not some time later
            if self._first:
                for _ in range(20):  # until the threads of the other files have given up, too
                    if integrity.remove_unfinished(self._folder):
                        break
                    time.sleep(0.1)

    def _newest(self) -> str:
        if not self._steps:
            return "there is no good one yet"
        return f"the newest good one is step {self._steps[-1]}"

    def _newest_whole(self) -> int:
        for step in reversed(self._steps):
            if step not in self._damage:
                # One process reads all files, and its word counts for all.
                found = integrity.find_damage(self._folder / str(step)) if self._first else ""
                self._damage[step] = found if agree(not found) else found or "damaged"
            if not self._damage[step]:
                return step
        if not self._steps:
            raise ValueError(f"no checkpoint in {self._folder}")
        found = "; ".join(f"step {step}: {self._damage[step]}" for step in reversed(self._steps))
        raise ValueError(
            f"every checkpoint in {self._folder} is damaged ({found}); put back a copy of one, or "
            "delete the folder to train from the start"
        )

    def _json(self, step: int, item: str) -> dict[str, Any]:
        folder = epath.Path(self._folder / str(step) / item)
        return dict(ocp.JsonCheckpointHandler().restore(folder))

    def _check_shapes(self, step: int, wanted: dict[str, str]) -> None:
        saved = self._json(step, "shapes")
        names = sorted({*saved, *wanted})
        other = [
            f"{name}: {saved.get(name, 'nothing')}, wanted {wanted.get(name, 'nothing')}"
            for name in names
            if saved.get(name) != wanted.get(name)
        ]
        if other:
            raise ValueError(
                f"the checkpoint at step {step} in {self._folder} holds other arrays "
                f"({'; '.join(other[:3])}{'; ...' if other[3:] else ''}); it is of another "
                "network, optimizer or version: use another folder"
            )

    def _put_aside(self, steps: list[int], chosen: int) -> None:
        for step in steps if self._first else ():
            aside = integrity.put_aside(self._folder / str(step))
            _say(
                f"the checkpoint at step {step} is damaged ({self._damage[step]}), it is now "
                f"{aside}; going on from step {chosen}"
            )
        agree(True)  # no process may save before
        self._steps = [step for step in self._steps if step not in steps]
        self._damage = {step: self._damage[step] for step in self._steps if step in self._damage}


def _tree(state: TrainState) -> dict[str, Any]:
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}


def _shapes(state: TrainState) -> dict[str, str]:
    leaves, _ = jax.tree.flatten_with_path(_tree(state))
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    return {name(path): f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves}


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _reason(error: BaseException) -> str:
    """The error in a few words: what the operating system said, if it did."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, TimeoutError):
        return f"not done in {_TIMEOUT_S} s, here or in another process"
    text = " ".join(str(error).split())
    if code := re.search(r"os_error_code='(\d+)'", text):
        return os.strerror(int(code[1]))
    return text if len(text) <= 160 else text[:157] + "..."


def _say(line: str) -> None:
    tqdm.write(f"fv: {line}", file=sys.stderr)


@functools.cache
def _leave_out_tracebacks() -> None:
    """orbax logs every error several times over, with tracebacks; it is told in one line instead.

    Its event loop is closed at the first error, of which tensorstore complains for every write.
    """

    def of_others(record: logging.LogRecord) -> bool:
        told = f"{record.pathname} {record.getMessage()} {record.exc_info}"
        return record.levelno < logging.ERROR or not re.search("orbax|OCDBT", told)

    def unraisable(event: Any) -> None:
        if str(event.exc_value) != "Event loop is closed":
            before(event)

    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(of_others)
    before, sys.unraisablehook = sys.unraisablehook, unraisable
