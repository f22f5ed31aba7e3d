"""Two processes of two devices train what one process does, and take over from each other."""

import json
import os
import shutil
import signal
import subprocess
import time

import fake_buckets
import launcher
import numpy as np
import pytest

from fv_jax.cli.main import main

EXPERIMENT = '''"""Tiny."""

from fv_jax.config.model import RetNetConfig
from fv_jax.config.training import NetworkExperiment, OptimizerConfig, RunConfig


def get_config():
    return NetworkExperiment(
        name="tiny", data="tokens", key_frames=4, text_tokens=0,
        model=RetNetConfig(
            width=24, layers=1, heads=2, value_width=24, hidden=16, chunk=19,
            memory_tokens=(4.0, 600.0),
        ),
        optimizer=OptimizerConfig(warmup_steps=1),
        run=RunConfig(
            steps=6, batch_size=4, log_every=1, sample_every=1000, checkpoint_every=3,
            keep_checkpoints=5,
        ),
    )
'''
TWO = ("--processes", "2", "--cpu-devices", "2")
# Rows that lie on one process are told by `test_slurm.py`.
MESH = ("--run.mesh.data", "1", "--run.mesh.tensor", "2", "--run.mesh.sequence", "2")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with an experiment and its tokens."""
    folder = launcher.project(tmp_path_factory.mktemp("project"))
    (folder / "tiny.py").write_text(EXPERIMENT)
    before = os.getcwd()
    os.chdir(folder)
    try:
        tokens = ["tokenize", "shapes,split=valid,count=24", "--size", "64", "--out", "tokens"]
        assert main(tokens) == 0
    finally:
        os.chdir(before)
    return folder


def environment(project):
    return {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(project / "xla"),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }


def train(project, name, *arguments):
    """The losses of a run in out/NAME, by step."""
    options = ["--run.folder", f"out/{name}", *arguments]
    done = launcher.launch(project, "local", "tiny.py", *options, **environment(project))
    assert done.returncode == 0, done.stdout + done.stderr
    return losses(project / "out" / name)


def losses(folder):
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


@pytest.fixture(scope="module")
def alone(project):
    return train(project, "alone", "--run.mesh.data", "1")


def test_the_losses_are_those_of_one_process_before_and_after_a_change(project, alone):
    assert sorted(alone) == [1, 2, 3, 4, 5, 6]
    together = train(project, "two", *TWO, *MESH)
    assert sorted(together) == sorted(alone)
    np.testing.assert_allclose([*together.values()], [*alone.values()], rtol=1e-5)
    # One process goes on from what the two had saved after step 3.
    folder = project / "out" / "two"
    shutil.rmtree(folder / "checkpoints" / "6")
    again = train(project, "two", "--run.mesh.data", "1")
    np.testing.assert_allclose([*again.values()], [*alone.values()], rtol=1e-5)


def test_two_processes_go_on_from_one_and_both_stop_and_save_at_sigterm(project, alone):
    folder = project / "out" / "stopped"
    shutil.copytree(project / "out" / "alone", folder)
    shutil.rmtree(folder / "checkpoints" / "6")
    endless = ["--run.steps", "100000", "--run.checkpoint-every", "100000"]
    command = ["bash", "launch.sh", "local", "tiny.py", "--run.folder", "out/stopped", *TWO]
    process = subprocess.Popen(
        [*command, *MESH, *endless],
        cwd=project, env=os.environ | environment(project), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while max(losses(folder), default=0) < 20 or 4 not in losses(folder):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    assert time.monotonic() - asked < 20
    assert "continuing at step 3" in output
    saved = int(output.split("stopped at step ")[1].split(";")[0])
    assert (folder / "checkpoints" / str(saved)).is_dir()
    assert saved == max(losses(folder))


def test_two_processes_train_in_a_bucket_and_go_on_from_it_elsewhere(project, alone, tmp_path):
    options = ["--run.folder", "gs://mine/run", *TWO, "--run.mesh.data", "1", "--run.mesh.fsdp=-1"]

    def go(machines):
        """What is said, and the losses in the bucket, of a run where no copy of it is."""
        settings = environment(project) | {"XDG_CACHE_HOME": str(tmp_path / machines)}
        done = launcher.launch(project, "local", "tiny.py", *options, **settings)
        assert done.returncode == 0, done.stdout + done.stderr
        (tmp_path / "log.jsonl").write_bytes(store.files["mine/run/log.jsonl"])
        return done.stdout, losses(tmp_path)

    with fake_buckets.running("gs") as store:
        said, first = go("here")
        assert "trained weights: gs://mine/run/model" in said
        saved = {name.split("/")[3]: name for name in store.files if "/checkpoints/" in name}
        assert saved.keys() == {"3", "6"}
        for name in [name for name in store.files if "/checkpoints/6/" in name]:
            del store.files[name]
        said, second = go("there")
        assert "continuing at step 3" in said
    for found in (first, second):
        assert sorted(found) == [1, 2, 3, 4, 5, 6]
        np.testing.assert_allclose([*found.values()], [*alone.values()], rtol=1e-5)
