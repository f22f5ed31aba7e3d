"""`launch.sh`: processes of one machine, scripts and commands for clusters, wrong usage."""

import os
import signal
import subprocess
import sys
import time

import launcher
import pytest

# Stands in for `fv train`: says what it was told, then does what its last argument says.
STUB = """
import os, signal, sys, time
names = ("PROCESS_ID", "NUM_PROCESSES", "LOCAL_DEVICE_IDS", "NUM_CPU_DEVICES")
print(sys.argv[1:], *(os.environ.get(f"JAX_{name}") for name in names), flush=True)
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
index, what = os.environ.get("JAX_PROCESS_ID"), sys.argv[-1]
if what == "fails" and index == "1":
    sys.exit(7)
if what in ("fails", "waits"):
    while not stopped:
        time.sleep(0.02)
    time.sleep(0.3 * int(index))
    print("saved", flush=True)
"""


@pytest.fixture
def project(tmp_path):
    return launcher.project(tmp_path, STUB)


@pytest.fixture(autouse=True)
def _told_nothing(monkeypatch):
    for name in list(os.environ):
        if name.startswith("JAX_"):
            monkeypatch.delenv(name)


def logs(project, folder: str = "out/shapes") -> list[str]:
    return [path.read_text() for path in sorted((project / folder / "logs").iterdir())]


def test_local_is_fv_train_on_this_machine(project):
    done = launcher.launch(project, "local", "shapes", "--cpu-devices", "2", "--run.steps", "5")
    assert done.returncode == 0, done
    assert done.stdout == "['train', 'shapes', '--run.steps', '5'] None None None 2\n"


def test_local_processes_know_each_other_and_the_first_ones_output_is_shown(project):
    done = launcher.launch(project, "local", "my/shapes.py", "--processes", "3", "a b")
    assert done.returncode == 0, done
    expected = [f"['train', 'my/shapes.py', 'a b'] {k} 3 {k} None\n" for k in range(3)]
    assert logs(project) == expected
    assert done.stdout.endswith(expected[0])
    assert expected[1] not in done.stdout
    arguments = ("--processes", "2", "--data", "gs://a/b", "--run.folder=out/x")
    assert launcher.launch(project, "local", "shapes", *arguments).returncode == 0
    assert len(logs(project, "out/x")) == 2


def test_logs_of_a_run_in_a_bucket_stay_here(project):
    arguments = ("--processes", "1", "--run.folder", "gs://a/b")
    assert launcher.launch(project, "local", "mine", *arguments).returncode == 0
    assert len(logs(project, "out/mine")) == 1
    assert not (project / "gs:").exists()


def test_one_process_that_fails_ends_all_and_its_code_is_returned(project):
    done = launcher.launch(project, "local", "shapes", "--processes", "3", "fails", seconds=30)
    assert done.returncode == 7
    assert "process 1 ended with code 7; see out/shapes/logs/process-1.log" in done.stderr
    assert [log.endswith("saved\n") for log in logs(project)] == [True, False, True]


# Shells let what they start with & ignore Ctrl-C, and that is inherited: here, it is not.
LISTENING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp("bash", ["bash", "launch.sh", *sys.argv[1:]])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_all_may_save(project, number):
    command = ["local", "shapes", "--processes", "2", "waits"]
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENING, *command],
        cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    end = time.monotonic() + 30
    while not (project / "out/shapes/logs").exists() or len("".join(logs(project))) < 80:
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.3)  # the stubs have said who they are; now they listen
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert all(log.endswith("saved\n") for log in logs(project))


def test_the_slurm_script_is_bash_and_holds_what_was_asked_for(project):
    options = ["--nodes", "4", "--gpus-per-node", "8", "--time", "2:00:00", "--partition", "gpu"]
    arguments = ["--", "--run.folder", "out/my run", "--nodes", "5"]
    done = launcher.launch(project, "slurm", "shapes", *options, "--dry-run", *arguments)
    assert done.returncode == 0, done
    assert done.stdout == (project / "out/my run/slurm/job.sbatch").read_text()
    lines = done.stdout.splitlines()
    for setting in (
        "--nodes=4", "--ntasks-per-node=1", "--gpus-per-node=8", "--time=2:00:00", "--requeue",
        "--partition=gpu", f'--output="{project}/out/my run/slurm/%j.log"', "--open-mode=append",
        "--signal=B:USR1@90", '--job-name="fv-shapes"',
    ):  # fmt: skip
        assert f"#SBATCH {setting}" in lines
    assert f"cd {project} || exit" in lines
    assert r"fv train shapes --run.folder out/my\ run --nodes 5 &" in done.stdout
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True).returncode == 0


def test_the_tpu_command_is_the_same_for_every_worker(project):
    command = ["tpu", "pod", "--zone", "us-west4-a", "--project", "mine", "shapes"]
    done = launcher.launch(project, *command, "--run.folder", "/mnt/it's", "--dry-run")
    assert done.returncode == 0, done
    # What a shell makes of the line that is printed, and of what the workers' shells get.
    words = shell_words(done.stdout)
    assert words[:-1] == [
        *"gcloud compute tpus tpu-vm ssh pod --zone=us-west4-a --project=mine".split(),
        "--worker=all",
    ]
    start, _, remote = words[-1].partition("cd flashvideo && ./launch.sh setup tpu && { setsid ")
    assert start == "--command="
    called, _, shown = remote.partition(" >train.log")
    assert shell_words(called) == [".venv/bin/fv", "train", "shapes", "--run.folder", "/mnt/it's"]
    assert shown == " 2>&1 </dev/null & tail -n +1 -F --pid=$! train.log; wait $!; }"


_GCLOUD = """#!/bin/bash
for word in "$@"; do :; done
cd "$WORKER" && exec bash -c "${word#--command=}"
"""
_TRAINING = """
import os, pathlib, sys, time
print("begun", *sys.argv[1:], flush=True)
while not pathlib.Path("go-on").exists():
    time.sleep(0.02)
print("done", flush=True)
pathlib.Path("finished").touch()
sys.exit(3)
"""


@pytest.mark.parametrize("connection", ["stays", "breaks"])
def test_a_tpu_training_outlives_the_connection(connection, project, tmp_path):
    """On a worker that is this machine; gcloud is a program that runs the command here."""
    worker, tools = tmp_path / "worker", tmp_path / "tools"
    (worker / "flashvideo" / ".venv" / "bin").mkdir(parents=True)
    tools.mkdir()
    programs = {
        tools / "gcloud": _GCLOUD,
        worker / "flashvideo" / "launch.sh": "#!/bin/sh\n",
        worker / "flashvideo/.venv/bin/fv": f"#!/bin/sh\nexec '{sys.executable}' fv.py \"$@\"\n",
        worker / "flashvideo" / "fv.py": _TRAINING,
    }
    for path, text in programs.items():
        path.write_text(text)
        path.chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    running = subprocess.Popen(
        # Under nohup a hangup is ignored.
        [*"env --default-signal=HUP bash launch.sh tpu pod --zone z shapes --run.steps 5".split()],
        cwd=project, env=os.environ | {"PATH": path, "WORKER": str(worker)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    home = worker / "flashvideo"
    assert running.stdout.readline() == "begun train shapes --run.steps 5\n"
    if connection == "breaks":
        os.killpg(running.pid, signal.SIGHUP)
        running.wait(timeout=30)
    (home / "go-on").touch()
    shown, told = running.communicate(timeout=30)
    wait_for((home / "finished").exists)
    assert (home / "train.log").read_text().endswith("done\n")
    assert "--worker=all --command='tail -n 50 -F flashvideo/train.log'" in told
    if connection == "stays":
        assert shown == "done\n"
        assert running.returncode == 3


def wait_for(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, condition
        time.sleep(0.05)


def shell_words(line: str) -> list[str]:
    shell = ["bash", "-c", f"printf '%s\\0' {line}"]
    return subprocess.run(shell, capture_output=True, text=True).stdout.split("\0")[:-1]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("paint", "no command 'paint'; ./launch.sh help lists them"),
        ("setup gpu", "setup takes cuda12, cuda13, tpu or nothing, got 'gpu'"),
        ("local", "local needs an EXPERIMENT first"),
        ("local --run.steps 5", "local needs an EXPERIMENT first"),
        ("local shapes --processes", "--processes needs a whole number of at least 1, got ''"),
        ("local shapes --processes 0", "--processes needs a whole number of at least 1, got '0'"),
        ("local shapes --cpu-devices two", "--cpu-devices needs a whole number"),
        ("slurm shapes", "slurm needs --nodes N"),
        ("slurm --nodes 2", "slurm needs an EXPERIMENT first"),
        ("slurm shapes --nodes 1-2", "--nodes needs a whole number of at least 1, got '1-2'"),
        ("slurm shapes --nodes 2 --time", "--time needs a value"),
        ("slurm shapes --nodes 2 --run.steps 5", "arguments of `fv train` go behind --"),
        ("slurm shapes --nodes 2 --tasks-per-node 3 --gpus-per-node 8", "must be 1 or"),
        ("slurm shapes --nodes 2", "no sbatch here"),
        ("tpu", "tpu needs the NAME of a TPU VM first"),
        ("tpu pod shapes", "tpu needs --zone Z"),
        ("tpu pod --zone", "--zone needs a value"),
        ("tpu pod --zone us", "tpu needs an EXPERIMENT first"),
        ("tpu pod --zone us shapes", "no gcloud here"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(project, tmp_path, command, words):
    tools = tmp_path / "tools"  # neither sbatch nor gcloud
    tools.mkdir()
    for name in ("bash", "dirname", "cat", "cksum", "sed"):
        (tools / name).symlink_to(subprocess.check_output(["which", name], text=True).strip())
    done = launcher.launch(project, *command.split(), PATH=str(tools))
    assert done.returncode == 2, done
    assert done.stderr.startswith("launch.sh: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert not (project / "out").exists()


def test_the_newest_versions_are_tested_in_an_environment_of_their_own(project):
    python = project / ".venv" / "newest" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    done = launcher.launch(project, "test", "--newest", "tests/ops", "-x")
    assert done.returncode == 0, done
    install, tests = done.stdout.splitlines()
    assert install.startswith("-m pip install ")
    assert "--upgrade --upgrade-strategy eager -e .[dev]" in install
    assert tests.startswith("-m pytest -m not slow and not tpu and not browser --numprocesses auto")
    assert tests.endswith(" tests/ops -x")


def test_help_shows_every_command(project):
    done = launcher.launch(project, "help")
    assert done.returncode == 0
    for command in (
        "demo",
        "test",
        "test-slow",
        "test-browser",
        "test-tpu",
        "docs",
        "fv",
        "setup",
        "local",
        "slurm",
        "tpu",
    ):
        assert f"./launch.sh {command} " in done.stdout
    assert "pipefail" not in done.stdout
    assert done.stdout.rstrip().endswith("EXPERIMENT [ARGS]")
