"""Trainings that are killed, stopped or left without room, as processes of their own."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from places import ROOT, SUPPORT
from small_disk import mounted

from fv_jax.cli.main import main

EVERY = 5  # steps from one checkpoint to the next
LINE = """
import dataclasses, sys
from pathlib import Path
from tiny_task import Experiment, LineTask
from fv_jax.training.loop import train
config = Experiment()
steps, every = map(int, sys.argv[2:])
run = dataclasses.replace(config.run, steps=steps, checkpoint_every=every, sample_every=steps)
train(LineTask(), dataclasses.replace(config, run=run), Path(sys.argv[1]))
"""
NETWORK = (
    "--run.batch-size 2 --run.log-every 1 --run.sample-every 100000 --model.width 24 "
    "--model.layers 1 --model.heads 2 --model.value-width 24 --model.hidden 16 --model.chunk 19 "
    "--model.memory-tokens 4 60"
).split()


@dataclasses.dataclass
class Run:
    """A training that can be started again and again.

    Attributes:
        folder: of the run.
        command: that starts it.
    """

    folder: Path
    command: list[str]

    def start(self) -> subprocess.Popen:
        environment = {
            **os.environ, "PYTHONPATH": f"{ROOT}:{SUPPORT}", "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            # Not the user's: a kill may cut its files off.
            "JAX_COMPILATION_CACHE_DIR": str(self.folder.parent / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        }  # fmt: skip
        self.folder.mkdir(exist_ok=True)
        pipe = subprocess.PIPE
        return subprocess.Popen(self.command, env=environment, stdout=pipe, stderr=pipe, text=True)

    def finish(self) -> None:
        process = self.start()
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors

    @property
    def checkpoints(self) -> list[str]:
        try:
            return os.listdir(self.folder / "checkpoints")
        except FileNotFoundError:
            return []

    @property
    def newest(self) -> int:
        return max([int(name) for name in self.checkpoints if name.isdigit()], default=0)

    def saving(self, since: float = 0.0) -> bool:
        """Whether there is a checkpoint that was begun since then, and is not complete."""
        unfinished = (self.folder / "checkpoints").glob("*tmp")
        try:
            return any(path.stat().st_mtime > since for path in unfinished)
        except FileNotFoundError:  # it is complete now
            return False

    def logged(self) -> dict[int, float]:
        """Loss of every step in the log; the last line may be cut off."""
        losses = {}
        for line in (self.folder / "log.jsonl").read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if "loss" in record:
                assert record["step"] not in losses
                losses[record["step"]] = record["loss"]
        return losses

    def result(self) -> tuple:
        """The newest checkpoint's arrays and position in the data."""
        folder = self.folder / "checkpoints" / str(self.newest)
        args = ocp.args.StandardRestore()
        state = ocp.StandardCheckpointHandler().restore(folder / "state", args=args)
        position = ocp.JsonCheckpointHandler().restore(folder / "data")
        return jax.tree.map(lambda leaf: np.asarray(leaf).tobytes(), state), position


def line_run(folder, steps, every=EVERY):
    command = [sys.executable, "-c", LINE, str(folder), str(steps), str(every)]
    return Run(folder, command)


@pytest.fixture(scope="module")
def network_run(tmp_path_factory):
    """Makes runs of a small network on tokenized clips."""
    tokens = tmp_path_factory.mktemp("tokens")
    source = "shapes,split=train,count=12"
    assert main(["tokenize", source, "--size", "64", "--out", str(tokens)]) == 0

    def make(folder, steps, every=EVERY):
        command = [sys.executable, "-m", "fv_jax", "train", str(ROOT / "experiments/own_videos.py")]
        options = ["--data", str(tokens), "--run.folder", str(folder), "--run.steps", str(steps)]
        every = ["--run.checkpoint-every", str(every)]
        return Run(folder, [*command, *options, *every, *NETWORK])

    return make


def until(process, happened, timeout=120):
    """Wait for it; False if the process ended before."""
    deadline = time.monotonic() + timeout
    while not happened():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return True


def kill(run, kind, rng, startup):
    """Start it and kill it: at "any" moment of its start, while "training" or while "saving".

    Returns:
        Seconds to its first checkpoint, steps lost, and whether it was killed in a save.
    """
    before, begin, since = run.newest, time.monotonic(), time.time()
    process = run.start()
    if kind == "any":
        until(process, lambda: time.monotonic() > begin + rng.uniform(0, startup))
    else:
        until(process, lambda: run.newest > before)
        startup = time.monotonic() - begin
        if kind == "saving":
            until(process, run.saving)
            time.sleep(rng.uniform(0, 0.03))
        else:
            time.sleep(rng.uniform(0, 0.4))
    assert process.poll() is None, process.communicate()
    process.kill()
    _, errors = process.communicate()
    assert "is damaged" not in errors
    losses = run.logged() if (run.folder / "log.jsonl").exists() else {}
    return startup, max(losses, default=0) - run.newest, run.saving(since)


def check_killed(run, whole, kinds):
    """A run killed in these ways and then left alone is the one that was left alone from the start.

    A checkpoint is written while the next steps are taken. It is complete before the next begins.
    """
    whole.finish()
    rng, startup, hits = np.random.default_rng(0), 0.0, 0
    for kind in kinds:
        startup, lost, saving = kill(run, kind, rng, startup)
        # Killed while it starts, it may have cleared a save that was cut off, but not the log.
        assert lost <= (2 * EVERY if saving or kind == "any" else EVERY), (kind, lost, saving)
        hits += saving
    assert hits >= kinds.count("saving") // 2
    run.finish()
    assert run.result() == whole.result()
    assert run.logged() == whole.logged()
    assert not run.saving()
    for path in (whole.folder / "model").glob("*.safetensors"):
        assert (run.folder / "model" / path.name).read_bytes() == path.read_bytes()
    print(f"{len(kinds)} kills, {hits} of them in a save")


@pytest.mark.slow
def test_a_run_killed_three_times(tmp_path):
    run, whole = line_run(tmp_path / "run", 150), line_run(tmp_path / "whole", 150, 1000)
    check_killed(run, whole, ["saving", "any", "training"])


@pytest.mark.slow
def test_a_network_killed_twenty_times(tmp_path, network_run):
    run = network_run(tmp_path / "run", 500)
    whole = network_run(tmp_path / "whole", 500, every=1000)
    kinds = ["training", "saving", "saving", "any"] * 5
    check_killed(run, whole, kinds)


def test_sigterm_saves_and_ends_well(tmp_path, network_run):
    run = network_run(tmp_path / "run", 100_000, every=50_000)
    process = run.start()
    log = tmp_path / "run" / "log.jsonl"
    assert until(process, lambda: log.exists() and log.read_text().count("\n") > 5)
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    seconds = time.monotonic() - begin
    assert process.returncode == 0, errors
    assert seconds < 10
    assert run.newest == max(run.logged()) > 5
    assert not run.saving()
    assert f"stopped at step {run.newest}; the same command continues it" in errors
    assert "Traceback" not in errors


def test_a_run_whose_disk_is_full_goes_on_and_ends_by_saying_so(tmp_path, network_run):
    run = network_run(tmp_path / "run", 8)
    with mounted(run.folder / "checkpoints", "256k"):
        process = run.start()
        _, errors = process.communicate(timeout=120)
        assert run.checkpoints == []
    assert process.returncode == 2, errors
    reason = r"could not be written (No space left on device); "
    assert f"the checkpoint at step 5 {reason}training goes on, there is no good" in errors
    assert f"the last checkpoint, at step 8, {reason}there is no good one yet; make" in errors
    assert "Traceback" not in errors
    assert list(run.logged()) == list(range(1, 9))
