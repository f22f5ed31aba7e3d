"""The training loop: data in, one jitted step, and everything a person wants to see meanwhile.

A run lives in one folder, which all its processes share:

    checkpoints/   orbax; a run started again continues from the newest
    log.jsonl      one line per `log_every` steps
    tensorboard/   the same numbers, and the pictures; with --log elsewhere instead, or as well
    samples/       a picture every `sample_every` steps, made with the averaged weights
    model/         the exported weights, as `fv generate --model` takes them
    skipped/       batches whose loss or gradient was not finite
    profile/       a trace of a few steps, if asked for

The same call runs on one device and on many hosts. Every process gives the rows that its devices
hold; the first one draws samples and writes.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import grain
import jax

from fv_jax.config.model import from_json, to_json
from fv_jax.config.training import RunConfig
from fv_jax.files import only_process_in
from fv_jax.provenance import provenance
from fv_jax.training.accelerators import peak_flops
from fv_jax.training.checkpoint import Checkpointer
from fv_jax.training.distributed import is_first
from fv_jax.training.flops import step_flops
from fv_jax.training.interrupt import Interrupted, StopSignal
from fv_jax.training.mesh import make_layout, place_batch, replicated, rows_of_process, to_host
from fv_jax.training.program import build_program
from fv_jax.training.run_log import RunLog
from fv_jax.training.state import Params, TrainState
from fv_jax.training.writers import open_writer

_PROFILED_STEPS = 3
_STEPS_BEFORE_PROFILE = 3  # the first compiles


@runtime_checkable
class Task(Protocol):
    """What the loop needs to know about the thing it trains."""

    tokens_per_step: int
    start: Params | None  # weights to start from, instead of `init`'s
    frozen: dict[str, Any]  # joined to every batch: what the loss reads and nobody trains

    def init(self, key: jax.Array) -> Params:
        """Fresh weights; jitted."""
        ...

    def axes(self) -> Any:
        """Logical axes of every weight, in the shape of `init`'s; None keeps weights whole."""
        ...

    def loss(self, params: Params, batch: Any, key: jax.Array) -> tuple[jax.Array, dict]:
        """Scalar loss and metrics of a batch, as `make_train_step` wants them."""
        ...

    def data(self, rows: Sequence[int]) -> grain.DatasetIterator:
        """These rows of each batch, for at least the run's steps; its position can be saved."""
        ...

    def sample(self, params: Params, picture: Path) -> dict[str, float]:
        """Draw a picture of what the weights can do; numbers on unseen data."""
        ...

    def export(self, params: Params, folder: Path, record: dict[str, Any]) -> None:
        """Write the weights as users load them, with a record of the run."""
        ...


def train(
    task: Task, config: Any, folder: Path, *, profile: bool = False,
    log: Sequence[str] = ("tensorboard",), saved: Callable[[], None] = lambda: None,
    shared: bool = True,
) -> Path:  # fmt: skip
    """Train until `config.run.steps`, continuing what `folder` holds.

    Args:
        task: what to train.
        config: an experiment with `run` and `optimizer`; stored in every checkpoint.
        folder: the run's.
        profile: write a trace of a few steps.
        log: where numbers and pictures go beside log.jsonl: names of `writers.WRITERS`.
        saved: called in the background when a checkpoint is whole.
        shared: whether it is one folder for all processes; see `Checkpointer`.

    Returns:
        The folder of the exported weights.

    Raises:
        ValueError: the folder holds a run of another config, or another process trains there;
            the mesh does not fit the devices or the batch; too many steps were skipped.
        Interrupted: Ctrl-C, after saving; `Terminated` of SIGTERM.
    """
    with only_process_in(folder) if is_first() else contextlib.nullcontext():
        return _Run(task, config, folder, saved, shared).train(profile, log)


class _Run:
    def __init__(
        self, task: Task, config: Any, folder: Path, saved: Callable[[], None], shared: bool
    ):
        run: RunConfig = config.run
        self.task, self.config, self.folder, self.run = task, config, folder, run
        self.layout = make_layout(run.mesh)
        self.writes = is_first()
        self.program = build_program(task, run, config.optimizer, self.layout)
        self.rows = rows_of_process(self.layout, run.batch_size)
        self.checkpoints = Checkpointer(
            folder / "checkpoints", keep=run.keep_checkpoints, keep_every=run.keep_every,
            saved=saved, shared=shared,
        )  # fmt: skip
        self.data = iter(task.data(self.rows))
        if self.checkpoints.latest_step() is None:
            self.state = self.program.begin(run.seed, task.start)
        else:
            before = self.checkpoints.config()
            with contextlib.suppress(ValueError):  # settings that came later have their defaults
                before = to_json(from_json(type(config), before))
            _check_same_run(before, to_json(config), folder)
            self.state = self.checkpoints.restore(self.program.state, self.data)
        self.frozen = jax.device_put(task.frozen, replicated(self.layout))
        self.source = provenance()
        self.flops: dict[Any, float] = {}  # of a step, by the shapes of its batch

    def train(self, profile: bool, log_to: Sequence[str]) -> Path:
        run, first = self.run, int(self.state.step)
        about = self.folder, self.folder.name, to_json(self.config), first
        writers = [open_writer(kind, *about) for kind in log_to] if self.writes else []
        self.log = log = RunLog(
            self.folder, first_step=first, steps=run.steps, every=run.log_every,
            max_skipped=run.max_skipped, tokens=self.task.tokens_per_step,
            peak=(peak_flops(jax.devices()[0]) or 0.0) * jax.device_count(), writers=writers,
        )  # fmt: skip
        log.begin(int(self.state.skipped))
        if self.writes:
            self._introduce(first)
            print("".join(f"look at it with: {writer.where}\n" for writer in writers), end="")
        stop = StopSignal()
        trace = _Trace(self.folder / "profile", first, run.steps) if profile else None
        try:
            with stop:
                for step in range(first + 1, run.steps + 1):
                    try:
                        self._step(step)
                    except Exception:
                        # A signal to all processes ends those that make batches, too: the steps
                        # before are saved.
                        if not stop.received:
                            raise
                        self._stop(step - 1, stop)
                    if trace:
                        trace.after(step, self.state)
                    self._after(step, stop)
                log.flush()
                model = self._export()
                self.checkpoints.close()
            return model
        except BaseException as error:
            # What went wrong is told, but that a stopped run could not be saved comes first.
            with contextlib.suppress(*(() if isinstance(error, Interrupted) else (OSError,))):
                self.checkpoints.close()
            raise
        finally:
            log.close()
            if trace:
                trace.close()

    def _after(self, step: int, stop: StopSignal) -> None:
        """Samples, checkpoints, and the end if one was asked for."""
        run, last = self.run, step == self.run.steps
        if stop.stops_after(step):
            self._stop(step, stop)
        sample = last or step % run.sample_every == 0
        save = last or step % run.checkpoint_every == 0
        if sample or save:
            self.log.flush()  # or the step under way would be paused, too
        if sample:
            with self.log.paused("scoring held-out data"):
                stop.run_unless_stopped(lambda: self._sample(step))
            if stop.received:
                self._stop(step, stop)
        if save:
            with self.log.paused("saving"):
                self.checkpoints.save(self.state, self.data, self.config)

    def _stop(self, step: int, stop: StopSignal) -> None:
        self.log.flush()
        self.checkpoints.save(self.state, self.data, self.config)
        error = stop.stopped_at(step)
        if error.exit_code:  # a machine that is taken away has little time
            self._export()
        raise error

    def _introduce(self, first: int) -> None:
        mesh = " x ".join(f"{k} {v}" for k, v in self.layout.mesh.shape.items() if v > 1)
        on = f" on {mesh}" if mesh else ""
        tokens = self.task.tokens_per_step
        print(
            f"{self.program.parameters / 1e6:.2f} M parameters, {tokens} tokens a step{on}, in "
            f"{self.folder}"
        )
        if first:
            print(f"continuing at step {first} of {self.run.steps}")

    def _step(self, step: int) -> None:
        with self.log.waiting():
            local = next(self.data)
        batch = place_batch(self.layout, local, self.rows, self.run.batch_size)
        flops = self._flops_of(batch)
        self.state, metrics = self.program.step(self.state, batch, self.frozen)
        self.log.step(step, metrics, local, flops)

    def _flops_of(self, batch: Any) -> float:
        """What a step over a batch of these shapes computes; 0 where no MFU can come of it."""
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(batch))
        if self.log.peak and shapes not in self.flops:
            inputs = ({**batch, **self.frozen} if self.frozen else batch), jax.random.key(0)
            with self.log.paused("counting FLOPs"):
                try:
                    self.flops[shapes] = step_flops(self.task.loss, self.state.params, *inputs)
                except ValueError:  # cannot be counted: no MFU, but a training
                    self.flops[shapes] = 0.0
        return self.flops.get(shapes, 0.0)

    def _sample(self, step: int) -> None:
        params = self._average()
        if self.writes:
            picture = self.folder / "samples" / f"{step:07d}.png"
            picture.parent.mkdir(exist_ok=True)
            on_device = jax.device_put(params, jax.local_devices()[0])
            self.log.evaluation(step, self.task.sample(on_device, picture))
            self.log.picture(step, picture)
            self._write_model(params)

    def _export(self) -> Path:
        params = self._average()
        if self.writes:
            self._write_model(params)
        return self.folder / "model"

    def _average(self) -> Params:
        return to_host(self.state.ema)

    def _write_model(self, params: Params) -> None:
        record = {
            "parameters": self.program.parameters, **self.log.summary(), "source": self.source,
            "config": to_json(self.config),
        }  # fmt: skip
        self.task.export(params, self.folder / "model", record)


class _Trace:
    """A profile of a few steps, after those that compile."""

    def __init__(self, folder: Path, first: int, steps: int):
        self._folder, self._running = folder, False
        self._start = min(first + _STEPS_BEFORE_PROFILE, max(steps - _PROFILED_STEPS, first + 1))

    def after(self, step: int, state: TrainState) -> None:
        if step == self._start:
            jax.block_until_ready(state)
            jax.profiler.start_trace(self._folder)
            self._running = True
        elif step == self._start + _PROFILED_STEPS:
            jax.block_until_ready(state)
            self.close()

    def close(self) -> None:
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
            print(f"profile: {self._folder}; look at it with `xprof {self._folder}`")


# Settings that may differ when a run is taken up again: how long, how watched, where, on what.
_MAY_DIFFER = {"workers", "remat", "loss_chunk", "expected"}
_RUN_MAY_DIFFER = {
    "steps", "folder", "log_every", "sample_every", "checkpoint_every", "keep_checkpoints",
    "keep_every", "max_skipped", "mesh", "accumulate",
}  # fmt: skip


def _check_same_run(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """A run may be lengthened, shortened or watched differently, but not become another one."""
    before, now = _lasting(before), _lasting(now)
    if before != now:
        names = sorted(_differing(before, now))
        raise ValueError(
            f"{folder} holds a run with other settings ({', '.join(names)}); "
            "give --run.folder another folder, or delete it"
        )


def _differing(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Names of settings, with those of the parts that they are in."""
    for name in now.keys() | before.keys():
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from (f"{name}.{inner}" for inner in _differing(old, new))
        elif old != new:
            yield name


def _lasting(config: dict[str, Any]) -> dict[str, Any]:
    config = json.loads(json.dumps(config))
    config["run"] = {k: v for k, v in config["run"].items() if k not in _RUN_MAY_DIFFER}
    return {k: v for k, v in config.items() if k not in _MAY_DIFFER}
