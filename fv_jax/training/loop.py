"""The training loop: data in, one jitted step, and everything a person wants to see meanwhile.

A run lives in one folder:

    checkpoints/   orbax; a run started again continues from the newest
    log.jsonl      one line per `log_every` steps
    tensorboard/   the same numbers
    samples/       a picture every `sample_every` steps, made with the averaged weights
    model/         the exported weights, as `fv generate --model` takes them

The device never waits for the host: metrics are read one step late.
"""

import json
import signal
import time
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import grain
import jax
import jax.numpy as jnp
import tensorboardX
from tqdm import tqdm

from fv_jax.config import to_json
from fv_jax.experiment_config import OptimizerConfig, RunConfig
from fv_jax.files import only_process_in
from fv_jax.provenance import provenance
from fv_jax.training.checkpoint import Checkpointer
from fv_jax.training.optimizer import build_optimizer, build_schedule
from fv_jax.training.state import Params, TrainState
from fv_jax.training.step import make_train_step


@runtime_checkable
class Task(Protocol):
    """What the loop needs to know about the thing it trains."""

    tokens_per_step: int

    def init(self, key: jax.Array) -> Params:
        """Fresh weights."""
        ...

    def loss(self, params: Params, batch: Any, key: jax.Array) -> tuple[jax.Array, dict]:
        """Scalar loss and metrics of a batch."""
        ...

    def data(self) -> grain.DatasetIterator:
        """Batches, forever or for at least the run's steps; its position can be saved."""
        ...

    def sample(self, params: Params, picture: Path) -> dict[str, float]:
        """Draw a picture of what the weights can do; numbers on unseen data."""
        ...

    def export(self, params: Params, folder: Path, record: dict[str, Any]) -> None:
        """Write the weights as users load them, with a record of the run."""
        ...


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM; the run's state has been saved."""


def fit(task: Task, config: Any, folder: Path) -> Path:
    """Train until `config.run.steps`, continuing what `folder` holds.

    Args:
        task: what to train.
        config: an experiment with `run` and `optimizer`; stored in every checkpoint.
        folder: of the run.

    Returns:
        The folder of the exported weights.

    Raises:
        ValueError: the folder holds a run of another config, or another process trains there.
        Interrupted: Ctrl-C or SIGTERM, after saving.
    """
    with only_process_in(folder):
        return _fit(task, config, folder)


def _fit(task: Task, config: Any, folder: Path) -> Path:
    run: RunConfig = config.run
    optimizer: OptimizerConfig = config.optimizer
    tx = build_optimizer(optimizer, run.steps)
    schedule = build_schedule(optimizer, run.steps)
    train_step = make_train_step(task.loss, tx, ema_decay=optimizer.ema_decay, seed=run.seed)
    data = iter(task.data())
    state = TrainState.create(task.init(jax.random.key(run.seed)), tx)
    checkpoints = Checkpointer(folder / "checkpoints", keep=run.keep_checkpoints)
    if checkpoints.latest_step() is not None:
        _check_same_run(checkpoints.config(), to_json(config), folder)
        state = checkpoints.restore(state, data)
    first = int(state.step)
    log = RunLog(folder, first)
    source = provenance()
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    print(f"{parameters / 1e6:.2f} M parameters, {task.tokens_per_step} tokens a step, in {folder}")
    if first:
        print(f"continuing at step {first} of {run.steps}")

    def export() -> Path:
        record = {
            "parameters": parameters, **log.summary(), "source": source, "config": to_json(config),
        }  # fmt: skip
        task.export(state.ema, folder / "model", record)
        return folder / "model"

    bar = tqdm(total=run.steps, initial=first, unit="step", dynamic_ncols=True, smoothing=0.05)
    late = None  # metrics of the step before, read while the device runs the next
    stop = _StopSignal()
    try:
        with stop:
            for step in range(first + 1, run.steps + 1):
                state, metrics = train_step(state, next(data))
                if late is not None:
                    log.step(*late, bar, task.tokens_per_step)
                wanted = step % run.log_every == 0 or step == run.steps
                late = (step, metrics, float(jnp.asarray(schedule(step - 1)))) if wanted else None
                bar.update()
                if step % run.sample_every == 0 or step == run.steps:
                    picture = folder / "samples" / f"{step:07d}.png"
                    picture.parent.mkdir(exist_ok=True)
                    log.evaluation(step, task.sample(state.ema, picture), bar)
                    export()
                if step % run.checkpoint_every == 0 or step == run.steps or stop.received:
                    checkpoints.save(state, data, config)
                if stop.received:
                    if late is not None:
                        log.step(*late, bar, task.tokens_per_step)
                    export()
                    raise Interrupted(f"stopped at step {step}; the same command continues it")
        if late is not None:
            log.step(*late, bar, task.tokens_per_step)
    finally:
        bar.close()
        checkpoints.close()
        log.close()
    return export()


class RunLog:
    """log.jsonl, tensorboard and the progress bar."""

    def __init__(self, folder: Path, first_step: int):
        self._path = folder / "log.jsonl"
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        # A killed run may have logged steps that its last checkpoint does not hold.
        self.records = [r for r in map(_parse, lines) if r and r["step"] <= first_step]
        text = "".join(json.dumps(record) + "\n" for record in self.records)
        self._path.write_text(text)
        self._file = self._path.open("a", buffering=1)
        self._board = tensorboardX.SummaryWriter(
            str(folder / "tensorboard"), purge_step=first_step + 1
        )
        self._seconds_before = self.records[-1]["seconds"] if self.records else 0.0
        self._start = self._last_time = time.monotonic()
        self._last_step = first_step

    def step(self, step: int, metrics: dict, rate: float, bar: tqdm, tokens: int) -> None:
        """Read one step's metrics from the device and write them down."""
        values = {name: float(value) for name, value in metrics.items()}
        now = time.monotonic()
        speed = (step - self._last_step) * tokens / max(now - self._last_time, 1e-9)
        self._last_time, self._last_step = now, step
        values |= {"learning_rate": rate, "tokens_per_second": speed}
        bar.set_postfix_str(f"loss {values['loss']:.4f}, {speed:,.0f} tokens/s")
        self._write(step, values)

    def evaluation(self, step: int, values: dict[str, float], bar: tqdm) -> None:
        """Numbers on unseen data."""
        shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        bar.write(f"step {step}: {shown}")
        self._write(step, {f"valid_{name}": value for name, value in values.items()})

    def summary(self) -> dict[str, Any]:
        """Steps, hours and the last of every number: the record that goes with a model."""
        last: dict[str, Any] = {}
        for record in self.records:
            last |= record
        seconds = last.pop("seconds", 0.0)
        return {"steps": last.pop("step", 0), "hours": round(seconds / 3600, 3), "final": last}

    def close(self) -> None:
        """Flush."""
        self._file.close()
        self._board.close()

    def _write(self, step: int, values: dict[str, float]) -> None:
        seconds = round(self._seconds_before + time.monotonic() - self._start, 1)
        record = {"step": step, "seconds": seconds, **values}
        self.records.append(record)
        self._file.write(json.dumps(record) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)


class _StopSignal:
    """Turns Ctrl-C and SIGTERM into a flag, so that the step under way ends and is saved."""

    received = False

    def __enter__(self) -> "_StopSignal":
        self._before = {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: object) -> None:
        self.received = True
        signal.signal(number, signal.default_int_handler)  # a second one stops at once


def _parse(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:  # half a line, cut off by a kill
        return None


def _check_same_run(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """A run may be lengthened, shortened or watched differently, but not become another one."""
    before, now = json.loads(json.dumps(before)), json.loads(json.dumps(now))
    for values in (before, now):
        for name in ("steps", "log_every", "sample_every", "checkpoint_every", "keep_checkpoints"):
            values["run"].pop(name)
    if before != now:
        names = sorted(name for name in now if before.get(name) != now[name])
        raise ValueError(
            f"{folder} holds a run with other settings ({', '.join(names)}); "
            "give --run.folder another folder, or delete it"
        )
