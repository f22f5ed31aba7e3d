"""The other processes of a training, where there are others: joining them, agreeing with them.

`join()` is called once, before JAX looks for devices. Who tells how many processes there are:

    told        JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, as `./launch.sh
                local --processes N` and Kubeflow set them; JAX_NUM_PROCESSES=1 means "alone",
                wherever it runs
    Open MPI    mpirun with more than one process
    SLURM       srun with more than one task; neither the shell of `salloc` nor the script that
                `sbatch` runs, which are one process however many tasks their job may start
    Cloud TPU   the machines of a slice; on GKE those that TPU_WORKER_HOSTNAMES names
    Kubernetes  a Job with completion indices, if jax[k8s] is there to ask the cluster

Everywhere else a training is one process, and `join()` does nothing. How the processes find each
other is left to `jax.distributed.initialize`.
"""

import atexit
import contextlib
import importlib.util
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from fv_jax.training.interrupt import Interrupted

ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


def join(timeout_s: int = 300) -> None:
    """Find the other processes, if there are others, and wait until all are there.

    From then on SIGTERM does not end the process: JAX tells the training loop (`interrupt.py`).

    Args:
        timeout_s: how long to wait for them.

    Raises:
        ValueError: the environment says only in part who the others are.
        ConnectionError: process 0 does not answer.
    """
    if jax.distributed.is_initialized():
        return
    cluster = find_cluster(os.environ)
    if cluster is None:
        return
    if cluster.get("process_id") and "coordinator_address" in cluster:
        _wait_for(cluster["coordinator_address"], timeout_s)
    # If the others do not come, JAX ends the process with a stack trace; this line explains it.
    print(f"joining the other processes, for at most {timeout_s} s", file=sys.stderr, flush=True)
    try:
        jax.distributed.initialize(**cluster, initialization_timeout=timeout_s)
    except RuntimeError as error:
        raise ConnectionError(f"could not join the other processes: {error}") from error


def is_first() -> bool:
    """Whether this process writes what is written once: logs, pictures, exported weights."""
    return jax.process_index() == 0


def agree(good: bool) -> bool:
    """Whether something is good on every process; all must ask."""
    if jax.process_count() == 1:
        return good
    return bool(multihost_utils.process_allgather(np.asarray(good)).all())


def same_everywhere(value: int) -> bool:
    """Whether every process has the same 32 bits; all must ask."""
    if jax.process_count() == 1:
        return True
    values = multihost_utils.process_allgather(np.uint32(value))
    return bool((values == values[0]).all())


@contextlib.contextmanager
def leaving_on_failure() -> Iterator[None]:
    """How a training's process ends, beside the others and for whoever started it.

    JAX lets a process that ends wait for all others, up to five minutes. If its block raised, they
    wait for it in some collective: only its end tells them, or who started them, that all is over.

    A run that was told to stop by SIGTERM has saved, and its exit code is 0. Kubernetes would take
    it for done: FV_STOPPED_CODE is the code that is wanted instead.
    """
    try:
        yield
    except Interrupted as stop:
        if stop.exit_code == 0 and (code := os.environ.get("FV_STOPPED_CODE")):
            stop.exit_code = int(code)
        raise
    except Exception as error:
        if jax.distributed.is_initialized():
            code = 2 if isinstance(error, ValueError | OSError) else 1  # as `fv` returns
            atexit.register(_exit, code)  # runs before JAX's own, which waits
        raise


def find_cluster(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Arguments of `jax.distributed.initialize`, or None for a process on its own.

    Raises:
        ValueError: the environment says only in part who the others are.
    """
    told = [name for name in (ADDRESS, COUNT, INDEX) if environment.get(name)]
    if environment.get(COUNT) == "1":
        return None
    if len(told) == 3:
        return _told(environment)
    # The address alone only says where a cluster's first process is, as JAX itself reads it.
    cluster = None if set(told) - {ADDRESS} else _detected(environment)
    if told and cluster is None:
        missing = [name for name in (ADDRESS, COUNT, INDEX) if name not in told]
        raise ValueError(
            f"{' and '.join(told)} set, but not {' and '.join(missing)}: "
            "set all three for several processes, or none"
        )
    return cluster


def _told(environment: Mapping[str, str]) -> dict[str, Any]:
    address, count, index = (environment[name] for name in (ADDRESS, COUNT, INDEX))
    if not (count.isdecimal() and index.isdecimal() and int(index) < int(count)):
        raise ValueError(
            f"{INDEX} must be a number from 0 to {COUNT} - 1, got {index!r} of {count!r}"
        )
    if not address.rpartition(":")[2].isdecimal() or address.startswith(":"):
        raise ValueError(f"{ADDRESS} must be HOST:PORT, got {address!r}")
    return {
        "coordinator_address": address,
        "num_processes": int(count),
        "process_id": int(index),
        "cluster_detection_method": "deactivate",
    }


def _detected(environment: Mapping[str, str]) -> dict[str, Any] | None:
    def number(name: str) -> int:
        return int(environment.get(name) or 1)

    if number("OMPI_COMM_WORLD_SIZE") > 1:
        if not ({ADDRESS, "OMPI_MCA_orte_hnp_uri"} & environment.keys()):
            raise ValueError(
                f"this Open MPI does not say where process 0 is: mpirun -x {ADDRESS}=HOST:PORT"
            )
        return {
            "num_processes": number("OMPI_COMM_WORLD_SIZE"),
            "process_id": int(environment["OMPI_COMM_WORLD_RANK"]),
            "cluster_detection_method": "ompi",
            **_devices(environment, number("OMPI_COMM_WORLD_LOCAL_SIZE") == 1),
        }
    # SLURM_NTASKS, which JAX reads, is there in `salloc` and `sbatch` too, and is the job's.
    if number("SLURM_STEP_NUM_TASKS") > 1:
        # "1(x4)" where each of four nodes has one task, "2,1" for others.
        alone = environment.get("SLURM_STEP_TASKS_PER_NODE", "").partition("(")[0] == "1"
        return {
            "num_processes": number("SLURM_STEP_NUM_TASKS"),
            "cluster_detection_method": "slurm",
            **_devices(environment, alone),
        }
    platforms = jax.config.values["jax_platforms"] or ""  # JAX adds tpu where it finds some
    if "tpu" in platforms.split(","):
        hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES")
        if hosts:
            several = "," in hosts or number("MEGASCALE_NUM_SLICES") > 1
            return {"cluster_detection_method": "gketpu"} if several else None
        # Only the machine's metadata know how many there are; JAX asks, and may find one.
        skip = "TPU_SKIP_MDS_QUERY" in environment
        return None if skip else {"cluster_detection_method": "gcetpu"}
    if "JOB_COMPLETION_INDEX" in environment and "KUBERNETES_SERVICE_HOST" in environment:
        if importlib.util.find_spec("kubernetes") is None:
            raise ValueError(
                f"in a Kubernetes Job with indices: set {ADDRESS}, {COUNT} and {INDEX} for a "
                f"training of all its pods (docs/scale.md), or {COUNT}=1 for one in each pod"
            )
        return {}
    return None


def _devices(environment: Mapping[str, str], alone: bool) -> dict[str, Any]:
    """JAX gives a task of SLURM or Open MPI the GPU of its number on the node.

    That is wrong for the only task of a node, which has all its GPUs, and for a task that sees
    only one because the cluster has bound it. An empty list means: all that can be seen.
    """
    if "JAX_LOCAL_DEVICE_IDS" in environment:
        return {}
    bound = environment.get("CUDA_VISIBLE_DEVICES", "") != "" and (
        "," not in environment["CUDA_VISIBLE_DEVICES"]
    )
    return {"local_device_ids": []} if alone or bound else {}


def _wait_for(address: str, timeout_s: float) -> None:
    """Until process 0 listens: JAX would not raise, but end the process with a stack trace."""
    host, _, port = address.rpartition(":")
    end = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:  # not yet there, or its name not yet known
            if time.monotonic() > end:
                raise ConnectionError(
                    f"process 0 does not answer at {ADDRESS}={address} after {timeout_s} s: {error}"
                ) from error
        time.sleep(0.2)


def _exit(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
