"""What a person wants to see of a run: log.jsonl, writers such as TensorBoard, the progress bar.

A step's metrics are read while the device runs the next one: it never waits for the host.
"""

import contextlib
import json
import math
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from fv_jax.files import replacing
from fv_jax.training.writers import Writer


class RunLog:
    """One line every `every` steps; every step is checked for numbers that are not finite.

    Beside the step's own metrics a line holds:

        tokens_per_second   since the line before, without the time for samples and checkpoints
        data_wait           share of that time in which the loop waited for a batch
        mfu                 model FLOPs over the devices' peak (arXiv:2204.02311, appendix B)
        memory_gb           the most in use so far: of the first device, or of the process
    """

    def __init__(
        self, folder: Path, *, first_step: int, steps: int, every: int, max_skipped: int,
        tokens: int, peak: float = 0.0, writers: Sequence[Writer] = (),
    ):  # fmt: skip
        """Args: as in `RunConfig`; `first_step` is the one to continue after, `tokens` of a step.

        `peak` is what all devices could compute, FLOP/s; 0 if nobody knows.
        Other processes than the first check, but write nothing; `writers` are told what is
        written, and closed at the end.
        """
        self._folder, self._every, self._steps = folder, every, steps
        self._max_skipped, self._tokens = max_skipped, tokens
        self._writes = jax.process_index() == 0
        self._late: tuple[int, dict[str, jax.Array], Any] | None = None
        self._skipped: int | None = None
        self.peak, self._flops = peak, 0.0  # FLOP since the line before
        self.records: list[dict[str, Any]] = []
        self._file, self._writers = None, writers
        if self._writes:
            self._open(first_step)
        self._seconds_before = self.records[-1]["seconds"] if self.records else 0.0
        self._start = time.monotonic()
        self._since, self._waited, self._paused, self._last_step = self._start, 0.0, 0.0, first_step
        self.bar = tqdm(
            total=steps, initial=first_step, unit="step", dynamic_ncols=True, smoothing=0.05,
            disable=not self._writes,
        )  # fmt: skip

    def _open(self, first_step: int) -> None:
        path = self._folder / "log.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        # A killed run may have logged steps that its last checkpoint does not hold.
        self.records = [r for r in map(_parse, lines) if r and r["step"] <= first_step]
        path.write_text("".join(json.dumps(record) + "\n" for record in self.records))
        self._file = path.open("a", buffering=1)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """The block waits for data."""
        start = time.monotonic()
        yield
        self._waited += time.monotonic() - start

    @contextlib.contextmanager
    def paused(self, what: str) -> Iterator[None]:
        """The block is no training, and the bar says what it is: its time does not count."""
        start = time.monotonic()
        self.bar.set_description_str(what)
        yield
        self.bar.set_description_str("")
        self._paused += time.monotonic() - start

    def step(
        self, step: int, metrics: dict[str, jax.Array], batch: Any, flops: float = 0.0
    ) -> None:
        """Take note of a step of so many FLOP that was just started; read the one before.

        Raises:
            ValueError: more steps than `max_skipped` had a loss or gradient that is not finite.
        """
        self.flush()
        self._late, self._flops = (step, metrics, batch), self._flops + flops
        self.bar.update()

    def flush(self) -> None:
        """Read the last step. Raises as `step`."""
        if self._late is None:
            return
        (step, metrics, batch), self._late = self._late, None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        skipped = int(values.get("skipped", 0))
        if self._skipped is not None and skipped > self._skipped:
            self._report_skipped(step, skipped, batch)
        self._skipped = skipped
        if step % self._every == 0 or step == self._steps:
            self._line(step, values)

    def _line(self, step: int, values: dict[str, float]) -> None:
        now = time.monotonic()
        seconds = max(now - self._since - self._paused, 1e-9)
        count = step - self._last_step
        values["tokens_per_second"] = count * self._tokens / seconds
        values["data_wait"] = min(self._waited / seconds, 1.0)
        if self.peak:
            values["mfu"] = self._flops / seconds / self.peak
        values["memory_gb"] = _memory() / 1e9
        self._flops = 0.0
        self._since, self._waited, self._paused, self._last_step = now, 0.0, 0.0, step
        speed = f"{values['tokens_per_second']:,.0f} tokens/s"
        self.bar.set_postfix_str(f"loss {values['loss']:.4f}, {speed}")
        self._write(step, values)

    def begin(self, skipped: int) -> None:
        """Steps that were skipped before this run was taken up."""
        self._skipped = skipped

    def _report_skipped(self, step: int, skipped: int, batch: Any) -> None:
        path = self._folder / "skipped" / f"{step:07d}-{jax.process_index()}.npz"
        arrays = {
            jax.tree_util.keystr(name, simple=True, separator="."): np.asarray(leaf)
            for name, leaf in jax.tree_util.tree_leaves_with_path(batch)
        }
        with replacing(path) as temporary:
            np.savez(temporary, allow_pickle=False, **arrays)
        what = f"step {step} was skipped: its loss or gradient is not finite; its batch is {path}"
        self.bar.write(f"fv: {what} ({skipped} skipped so far)", file=sys.stderr)
        if skipped > self._max_skipped:
            raise ValueError(
                f"{what}. It is number {skipped}, and max_skipped is {self._max_skipped}: look at "
                "the batches, lower the learning rate, or raise --run.max-skipped to go on"
            )

    def evaluation(self, step: int, values: dict[str, float]) -> None:
        """Numbers on unseen data."""
        shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        self.bar.write(f"step {step}: {shown}")
        self._write(step, {f"valid_{name}": value for name, value in values.items()})

    def picture(self, step: int, path: Path) -> None:
        """What the weights of a step make."""
        for writer in self._writers:
            writer.picture(step, path)

    def summary(self) -> dict[str, Any]:
        """Steps, hours and the last of every number: the record that goes with a model."""
        last: dict[str, Any] = {}
        for record in self.records:
            last |= record
        seconds = last.pop("seconds", 0.0)
        return {"steps": last.pop("step", 0), "hours": round(seconds / 3600, 3), "final": last}

    def close(self) -> None:
        """Flush the files."""
        self.bar.close()
        if self._file is not None:
            self._file.close()
        for writer in self._writers:
            writer.close()

    def _write(self, step: int, values: dict[str, float]) -> None:
        seconds = round(self._seconds_before + time.monotonic() - self._start, 1)
        # JSON knows no NaN.
        numbers = {k: v if math.isfinite(v) else None for k, v in values.items()}
        record = {"step": step, "seconds": seconds, **numbers}
        self.records.append(record)
        if self._file is None:
            return
        self._file.write(json.dumps(record) + "\n")
        for writer in self._writers:
            writer.scalars(step, values)


def _memory() -> float:
    """Bytes."""
    stats = jax.local_devices()[0].memory_stats()  # None on a CPU
    if stats and "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _parse(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:  # half a line, cut off by a kill
        return None
