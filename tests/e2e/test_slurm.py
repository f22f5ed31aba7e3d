"""Training as a job of a real SLURM of one node, submitted by `launch.sh slurm`."""

import json
import subprocess
import time
from pathlib import Path

import launcher
import numpy as np
import pytest
import slurm

from fv_jax.cli.main import main

if slurm.missing():
    pytest.skip(reason=slurm.missing(), allow_module_level=True)

# Both tasks on frames of 8x8 ids, with a network that compiles in seconds.
EXPERIMENT = '''"""Tiny."""

from fv_jax.config.model import RetNetConfig
from fv_jax.config.training import NetworkExperiment, OptimizerConfig, RunConfig


def get_config():
    return NetworkExperiment(
        name="tiny", data="tokens", key_frames=2, text_tokens=0,
        model=RetNetConfig(
            width=24, layers=1, heads=2, value_width=24, hidden=16, chunk=19,
            memory_tokens=(4.0, 60.0),
        ),
        optimizer=OptimizerConfig(warmup_steps=1),
        run=RunConfig(steps=3, batch_size=4, log_every=1, sample_every=100),
    )
'''

# Stands in for `fv train`: joins, adds up what all devices hold, and is stopped the first time.
STUB = """
import os, signal, sys, time
stopped = []
from fv_jax.training import distributed as cluster
cluster.join()
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
import jax, jax.numpy as jnp
mesh = jax.make_mesh((2,), ("all",), axis_types=(jax.sharding.AxisType.Auto,))
whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("all"))
ones = jax.make_array_from_callback((2,), whole, lambda index: jnp.arange(1.0, 3.0)[index])
print(sys.argv[1:], "process", jax.process_index(), "sum", float(jnp.sum(ones)), flush=True)
if os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
    while not stopped:
        time.sleep(0.05)
    time.sleep(0.5)
    print("saved", flush=True)
else:
    print("went on to the end", flush=True)
"""


@pytest.fixture(scope="module")
def cluster():
    """Environment of a running SLURM's commands."""
    with slurm.one_node() as environment:
        yield environment | {"JAX_PLATFORMS": "cpu"}


def say(cluster, *command: str) -> str:
    done = subprocess.run(command, env=cluster, capture_output=True, text=True)
    assert done.returncode == 0, done
    return done.stdout


def submit(project, cluster, *arguments: str) -> tuple[str, Path]:
    """A job of two tasks: its number and its log."""
    job = ["slurm", "tiny.py", "--nodes", "1", "--tasks-per-node", "2", *arguments]
    done = launcher.launch(project, *job, **cluster)
    assert done.returncode == 0, done
    number = done.stdout.split("submitted job ")[1].split(":")[0]
    assert f"squeue -j {number}" in done.stdout
    return number, project / "out" / "tiny" / "slurm" / f"{number}.log"


def losses_of(run: Path) -> list[float]:
    records = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [record["loss"] for record in records if "loss" in record]


def wait_for(condition, log, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        text = log.read_text() if log.exists() else "no log"
        assert time.monotonic() < end, text
        time.sleep(0.1)


def state(cluster, job: str) -> dict[str, str]:
    words = say(cluster, "scontrol", "--oneliner", "show", "job", job).split()
    return dict(word.split("=", 1) for word in words if "=" in word)


@pytest.mark.slow  # what they compute, test_processes.py asks without SLURM
def test_the_tasks_of_a_job_compute_the_losses_of_one_process(cluster, tmp_path, monkeypatch):
    project = launcher.project(tmp_path)
    (project / "tiny.py").write_text(EXPERIMENT)
    monkeypatch.chdir(project)
    assert main(["tokenize", "shapes,split=valid,count=24", "--size", "64", "--out", "tokens"]) == 0
    # The user's cache is left alone, and compiling well takes longer than it saves.
    quick = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    arguments = ["--run.folder", "out/alone"]
    alone = launcher.launch(project, "local", "tiny.py", *arguments, JAX_PLATFORMS="cpu", **quick)
    assert alone.returncode == 0, alone
    job, log = submit(project, cluster | quick, "--time", "10", "--", "--run.mesh.data", "2")
    ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
    wait_for(lambda: state(cluster, job)["JobState"] in ended, log)
    assert state(cluster, job)["JobState"] == "COMPLETED", log.read_text()
    losses = [losses_of(project / "out" / name) for name in ("alone", "tiny")]
    assert len(losses[0]) == 3
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    lines = log.read_text().splitlines()
    assert any(line.startswith("0: ") for line in lines)  # every line says whose it is
    assert any(line.startswith("1: ") for line in lines)


def test_a_job_at_its_time_limit_saves_is_queued_again_and_goes_on(cluster, tmp_path):
    project = launcher.project(tmp_path, STUB)
    job, log = submit(project, cluster, "--time", "10", "--", "--name", "with space")
    wait_for(lambda: log.exists() and log.read_text().count("sum 3.0") == 2, log)
    # What SLURM sends 90 s before the limit; --signal in the script asks for it.
    say(cluster, "scancel", "--batch", "--signal=USR1", job)
    wait_for(lambda: state(cluster, job)["JobState"] == "PENDING", log)
    assert state(cluster, job)["Restarts"] == "1"
    text = log.read_text()
    assert "the time limit is near: saving" in text
    assert text.count("saved") == 2
    # SLURM would wait for two minutes; it does not start a job in the second it was killed in.
    time.sleep(2)
    say(cluster, "scontrol", "update", f"JobId={job}", "StartTime=now")
    wait_for(lambda: state(cluster, job)["JobState"] == "COMPLETED", log)
    text = log.read_text()
    for process in (0, 1):
        line = f"{process}: ['train', 'tiny.py', '--name', 'with space'] process {process} sum 3.0"
        assert text.count(line) == 2  # one log for both runs, the same command
    assert text.count("went on to the end") == 2


# The second process fails; the first would go on for long.
FAILING = """
import os, sys, time
if os.environ["SLURM_PROCID"] == "1":
    sys.exit(5)
time.sleep(100)
"""


def test_a_task_that_fails_ends_the_job_and_it_is_not_queued_again(cluster, tmp_path):
    job, log = submit(launcher.project(tmp_path, FAILING), cluster)
    wait_for(lambda: state(cluster, job)["JobState"] == "FAILED", log, 40)
    assert "task 1: Exited with exit code 5" in log.read_text()
    assert state(cluster, job)["Restarts"] == "0"


@pytest.mark.parametrize(
    "options",
    [
        ("--nodes", "1"),
        ("--nodes", "1", "--tasks-per-node", "2", "--cpus-per-task", "2", "--partition", "debug"),
        ("--nodes", "1", "--gpus-per-node", "2", "--time", "1-12:30:00"),
        ("--nodes", "1", "--gpus-per-node", "2", "--tasks-per-node", "2", "--time", "1:00:00"),
    ],
    ids=" ".join,
)
def test_slurm_takes_every_option(cluster, tmp_path, options):
    project = launcher.project(tmp_path)
    done = launcher.launch(project, "slurm", "shapes", *options, "--dry-run")
    assert done.returncode == 0, done
    script = project / "out" / "shapes" / "slurm" / "job.sbatch"
    assert script.read_text() == done.stdout
    say(cluster, "sbatch", "--test-only", str(script))
