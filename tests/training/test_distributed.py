"""Who the other processes are, and that they find each other."""

import os
import socket
import subprocess
import sys
import time

import jax
import pytest

from fv_jax.training.distributed import find_cluster, is_first, join, leaving_on_failure
from fv_jax.training.interrupt import Interrupted, Terminated

SBATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
SALLOC = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_JOB_NODELIST": "node[1-4]"}
SHELL_IN_STEP = SBATCH | {"SLURM_STEP_NODELIST": "node1", "SLURM_STEP_NUM_TASKS": "1"}
STEP = SBATCH | {
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}
MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
TOLD = {
    "JAX_COORDINATOR_ADDRESS": "host:1234",
    "JAX_NUM_PROCESSES": "4",
    "JAX_PROCESS_ID": "3",
}
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "1"}


@pytest.mark.parametrize(
    "environment",
    [{}, SALLOC, SBATCH, SHELL_IN_STEP, STEP | {"JAX_NUM_PROCESSES": "1"}, POD | TOLD
     | {"JAX_NUM_PROCESSES": "1"}, {"OMPI_COMM_WORLD_SIZE": "1"}, {"TPU_WORKER_HOSTNAMES": "a,b"}],
    ids=["nothing", "salloc", "sbatch", "srun-pty", "told-1", "told-in-pod", "mpirun-1", "no-tpu"],
)  # fmt: skip
def test_one_process_joins_nobody(environment):
    assert find_cluster(environment) is None


def test_what_is_told_goes_before_what_is_found():
    told = find_cluster(STEP | TOLD)
    assert told == {
        "coordinator_address": "host:1234",
        "num_processes": 4,
        "process_id": 3,
        "cluster_detection_method": "deactivate",
    }


def test_slurm_tasks_are_those_of_the_step_and_share_the_gpus():
    several = {"num_processes": 4, "cluster_detection_method": "slurm"}
    every_gpu = {"local_device_ids": []}
    assert find_cluster(STEP) == several  # JAX takes one GPU for each task of a node
    assert find_cluster(STEP | {"SLURM_NTASKS": "9"}) == several
    assert find_cluster(STEP | {"JAX_COORDINATOR_ADDRESS": "host:1"}) == several
    assert find_cluster(STEP | {"SLURM_STEP_TASKS_PER_NODE": "1(x4)"}) == several | every_gpu
    assert find_cluster(STEP | {"SLURM_STEP_TASKS_PER_NODE": "10(x4)"}) == several
    assert find_cluster(STEP | {"CUDA_VISIBLE_DEVICES": "0"}) == several | every_gpu
    assert find_cluster(STEP | {"CUDA_VISIBLE_DEVICES": "0,1"}) == several
    own = {"SLURM_STEP_TASKS_PER_NODE": "1(x4)", "JAX_LOCAL_DEVICE_IDS": "2"}
    assert find_cluster(STEP | own) == several


def test_open_mpi_goes_before_the_slurm_step_that_started_it():
    old = MPI | {"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:5"}
    expected = {"num_processes": 4, "process_id": 3, "cluster_detection_method": "ompi"}
    assert find_cluster(STEP | old) == expected
    assert find_cluster(MPI | {"JAX_COORDINATOR_ADDRESS": "host:1"}) == expected
    with pytest.raises(ValueError, match="mpirun -x JAX_COORDINATOR_ADDRESS=HOST:PORT"):
        find_cluster(MPI)


@pytest.fixture
def tpu():
    """What JAX sets at its import on a machine with TPUs, and nowhere else."""
    before = jax.config.jax_platforms
    jax.config.update("jax_platforms", "tpu,cpu")
    yield
    jax.config.update("jax_platforms", before)


@pytest.mark.usefixtures("tpu")
def test_machines_of_a_tpu_slice():
    assert find_cluster({}) == {"cluster_detection_method": "gcetpu"}
    assert find_cluster({"TPU_SKIP_MDS_QUERY": "1"}) is None
    assert find_cluster({"TPU_WORKER_HOSTNAMES": "localhost"} | POD) is None
    on_gke = {"cluster_detection_method": "gketpu"}
    assert find_cluster({"TPU_WORKER_HOSTNAMES": "a,b,c,d", "TPU_WORKER_ID": "2"} | POD) == on_gke
    assert find_cluster({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"} | POD) == on_gke


def test_pods_of_an_indexed_job_must_be_told_who_they_are():
    with pytest.raises(ValueError, match="JAX_NUM_PROCESSES=1 for one in each pod"):
        find_cluster(POD)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"JAX_COORDINATOR_ADDRESS": "host:1"}, "but not JAX_NUM_PROCESSES and JAX_PROCESS_ID"),
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "0"}, "but not JAX_COORDINATOR_ADDRESS"),
        (STEP | {"JAX_NUM_PROCESSES": "2"}, "but not JAX_COORDINATOR_ADDRESS and JAX_PROCESS_ID"),
        (TOLD | {"JAX_PROCESS_ID": "4"}, "from 0 to JAX_NUM_PROCESSES - 1, got '4' of '4'"),
        (TOLD | {"JAX_NUM_PROCESSES": "two"}, "got '3' of 'two'"),
        (TOLD | {"JAX_COORDINATOR_ADDRESS": "host"}, "must be HOST:PORT, got 'host'"),
    ],
)
def test_half_a_cluster_is_refused(environment, words):
    with pytest.raises(ValueError, match=words):
        find_cluster(environment)


def test_one_process_is_the_first_and_joins_any_number_of_times(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "JAX_NUM_PROCESSES")):
            monkeypatch.delenv(name)
    join()
    join()
    assert not jax.distributed.is_initialized()
    assert is_first()


_SUM = """
import jax, jax.numpy as jnp
from fv_jax.training import distributed as cluster
cluster.join(60)
cluster.join(60)  # the second time does nothing
mesh = jax.make_mesh((4,), ("all",), axis_types=(jax.sharding.AxisType.Auto,))
whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("all"))
ones = jax.make_array_from_callback((4,), whole, lambda index: jnp.arange(4.0)[index])
print(jax.process_index(), jax.process_count(), cluster.is_first(), float(jnp.sum(ones)))
"""

_FAIL = """
import sys, time
from fv_jax.training import distributed as cluster
cluster.join(60)
import jax
with cluster.leaving_on_failure():
    if jax.process_index():
        raise OSError("disk full")
    time.sleep(60)  # as in a collective that never ends
"""


def start(code: str, processes: int, **more: str) -> list[subprocess.Popen]:
    """Processes on this machine that are told of each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    told = {"JAX_COORDINATOR_ADDRESS": address, "JAX_COORDINATOR_BIND_ADDRESS": address}
    environment = os.environ | told | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    return [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment
            | {"JAX_NUM_PROCESSES": str(processes), "JAX_PROCESS_ID": str(index)}
            | more,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for index in range(processes)
    ]  # fmt: skip


def test_two_processes_add_up_what_their_four_devices_hold():
    outputs = [process.communicate(timeout=120) for process in start(_SUM, 2)]
    last = [out.splitlines()[-1:] for out, _ in outputs]  # Gloo prints lines of its own before
    assert last == [["0 2 True 6.0"], ["1 2 False 6.0"]], outputs


def test_a_process_that_fails_does_not_wait_for_the_others():
    first, second = start(_FAIL, 2)
    begin = time.monotonic()
    _, error = second.communicate(timeout=50)
    assert second.returncode == 2
    assert "disk full" in error
    assert time.monotonic() - begin < 45
    assert first.poll() is None
    first.kill()
    first.communicate()


@pytest.mark.parametrize(("wanted", "code"), [("", 0), ("75", 75)])
def test_a_run_that_was_told_to_stop_ends_with_the_code_that_is_wanted(wanted, code, monkeypatch):
    monkeypatch.setenv("FV_STOPPED_CODE", wanted)
    with pytest.raises(Terminated) as stop, leaving_on_failure():
        raise Terminated("stopped at step 3")
    assert stop.value.exit_code == code
    with pytest.raises(Interrupted) as stop, leaving_on_failure():
        raise Interrupted("stopped at step 3")
    assert stop.value.exit_code == 130


def test_a_first_process_that_is_not_there_is_one_clear_error(monkeypatch):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
    for name, value in (TOLD | {"JAX_COORDINATOR_ADDRESS": address}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConnectionError, match=rf"JAX_COORDINATOR_ADDRESS={address} after 1 s"):
        join(1)
