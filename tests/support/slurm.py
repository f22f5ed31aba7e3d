"""A real SLURM of one node on this machine, in a folder of its own, for as long as a test takes.

It needs root, because slurmd starts jobs as their users, and Debian's `slurm-wlm` and `munge`.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "srun", "squeue", "scontrol", "scancel", "sinfo")

# The plugins are those that need neither cgroups nor a database.
CONFIG = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SlurmdParameters=config_overrides
KillWait={kill_wait}
ReturnToService=2
GresTypes=gpu
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 CPUs=4 Gres=gpu:2 State=UNKNOWN
PartitionName=debug Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""

# Two "GPUs", so that options which ask for them can be tried; nothing runs on them.
GPUS = """
NodeName=localhost Name=gpu File=/dev/null
NodeName=localhost Name=gpu File=/dev/zero
"""


def missing() -> str:
    """Why there can be no SLURM here; "" if there can."""
    absent = [name for name in (*DAEMONS, *COMMANDS) if _path(name) is None]
    if absent:
        return f"no {absent[0]} (Debian: apt-get install slurm-wlm munge)"
    if os.geteuid() != 0:
        return "slurmd must be started as root"
    try:
        socket.gethostbyname(socket.gethostname())
    except OSError:  # JAX's CPU processes look each other up by it
        return f"this machine's own name, {socket.gethostname()}, does not resolve"
    return ""


@contextlib.contextmanager
def one_node(kill_wait_s: int = 30) -> Iterator[dict[str, str]]:
    """A running SLURM; gives the environment that its commands need."""
    # Unix sockets have short names, and pytest's folders long ones.
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, contextlib.ExitStack() as running:
        folder = Path(name)
        for part in ("state", "spool"):
            (folder / part).mkdir()
        config = folder / "slurm.conf"
        host = socket.gethostname().split(".")[0]
        config.write_text(
            CONFIG.format(folder=folder, host=host, ports=_free_ports(2), kill_wait=kill_wait_s)
        )
        environment = _without_slurm() | {"SLURM_CONF": str(config)}

        def start(*command: str) -> None:
            log = running.enter_context((folder / f"{command[0]}.out").open("w"))
            daemon = subprocess.Popen(
                [_path(command[0]) or command[0], *command[1:]],
                env=environment, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
            running.callback(_stop, daemon)

        (folder / "gres.conf").write_text(GPUS)
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = {"key-file": key, "socket": folder / "munge.socket", "pid-file": folder / "m.pid"}
        files |= {"seed-file": folder / "munge.seed", "log-file": folder / "munged.log"}
        # --force: the folder's rights are not those that munged would like.
        start("munged", "--foreground", "--force", *(f"--{k}={v}" for k, v in files.items()))
        _wait_until(lambda: files["socket"].exists(), "munged", folder)
        start("slurmctld", "-D", "-i")
        start("slurmd", "-D")
        _wait_until(
            lambda: "idle" in _output(["sinfo", "-h", "-o", "%T"], environment), "the node", folder
        )
        running.callback(_cancel_all, environment)
        yield environment


def _path(command: str) -> str | None:
    return shutil.which(command) or shutil.which(command, path="/usr/sbin:/sbin")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _without_slurm() -> dict[str, str]:
    """The tests may themselves run in a job of another SLURM."""
    prefixes = ("SLURM", "SBATCH", "SRUN")
    return {k: v for k, v in os.environ.items() if not k.startswith(prefixes)}


def _output(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout


def _cancel_all(environment: dict[str, str]) -> None:
    """End the jobs, which would outlive slurmd."""
    _output(["scancel", "--state=PENDING"], environment)
    _output(["scancel", "--full", "--signal=KILL", "--state=RUNNING"], environment)
    end = time.monotonic() + 15
    while _output(["squeue", "-h"], environment).strip() and time.monotonic() < end:
        time.sleep(0.1)


def _stop(daemon: subprocess.Popen) -> None:
    daemon.terminate()
    try:
        daemon.wait(timeout=10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _wait_until(condition, what: str, folder: Path, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            logs = "\n".join(f"{p.name}: {p.read_text()[-2000:]}" for p in folder.glob("*.[lo]*"))
            raise TimeoutError(f"{what} is not up after {seconds} s\n{logs}")
        time.sleep(0.1)
