"""What a training step costs, told by its compiled program before anything runs."""

import atexit
import dataclasses
import functools
import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax

from fv_jax.config.training import OptimizerConfig, RunConfig
from fv_jax.planning import hlo, schedule
from fv_jax.training.accelerators import find_accelerator
from fv_jax.training.flops import step_flops
from fv_jax.training.mesh import bytes_per_device, make_layout
from fv_jax.training.program import build_program


@dataclasses.dataclass(frozen=True)
class StepCosts:
    """What one step costs.

    Attributes:
        mesh: sizes of the axes.
        platform: whose compiler said so.
        parameters: numbers that the model learns.
        weights / average / optimizer: bytes of the state on one device.
        temporary: bytes of gradients and activations on one device.
        flops: the model's, all devices together; what is computed again does not count.
        collectives: what a device receives, by kind.
        seconds: the schedule's length as a TPU's compiler estimates it; None elsewhere.
        waiting: seconds of these that a device waits for others.
    """

    mesh: dict[str, int]
    platform: str
    parameters: int
    weights: int
    average: int
    optimizer: int
    temporary: int
    flops: int
    collectives: dict[str, hlo.Traffic]
    seconds: float | None
    waiting: float | None

    @property
    def bytes_per_device(self) -> int:
        """All of it."""
        return self.weights + self.average + self.optimizer + self.temporary

    @property
    def received(self) -> int:
        """Bytes that a device receives from others."""
        return sum(traffic.bytes for traffic in self.collectives.values())

    @property
    def mfu(self) -> float | None:
        """What `seconds` would be of v5e chips, which they are estimated for."""
        chip = find_accelerator("TPU v5e")
        if self.seconds is None or chip is None:
            return None
        return self.flops / self.seconds / (chip.peak_flops * math.prod(self.mesh.values()))


def step_costs(task: Any, run: RunConfig, optimizer: OptimizerConfig, devices: list) -> StepCosts:
    """Compile the step of a task for these devices, real or described, and read what it says.

    Args:
        task: a `loop.Task`, or the part of one that has `batch_shapes`.
        run: the experiment's.
        optimizer: the experiment's.
        devices: all of the mesh.
    """
    layout = make_layout(run.mesh, devices)
    program = build_program(task, run, optimizer, layout)
    batch = task.batch_shapes()
    key = jax.eval_shape(lambda: jax.random.key(0))
    flops = step_flops(task.loss, program.state.params, {**batch, **task.frozen}, key)
    compiled = program.compiled(batch)
    module = hlo.Module(compiled.as_text())
    platform = devices[0].platform
    cycles = lambda name: schedule.read_kernel(written_schedules(), name).cycles
    times = module.times(hlo.V5E, cycles) if platform == "tpu" else None
    size = lambda part: bytes_per_device(part, jax.tree.map(lambda leaf: leaf.sharding, part))
    return StepCosts(
        mesh={name: size for name, size in layout.mesh.shape.items()},
        platform=platform,
        parameters=program.parameters,
        weights=size(program.state.params),
        average=size(program.state.ema),
        optimizer=size(program.state.opt_state),
        temporary=compiled.memory_analysis().temp_size_in_bytes,
        flops=flops,
        collectives=module.collectives(),
        seconds=times and times.total,
        waiting=times and times.waiting,
    )


def described_devices(topology: str) -> list:
    """Devices of a TPU slice that is not here, for its compiler.

    Raises:
        ValueError: no such slice, or its compiler is not installed.
    """
    from jax.experimental import topologies

    written_schedules()
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # or it asks the network which TPU this is
    jax.config.update("jax_enable_compilation_cache", False)  # such programs cannot be read again
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"no TPU compiler for {topology!r} ({' '.join(str(error).split())[:200]}); it is in "
            "libtpu (`pip install libtpu==0.0.42.*`), and slices are named like v5e:4x4"
        ) from error
    return list(described.devices)


@functools.cache
def written_schedules() -> Path:
    """Where the compiler writes its schedules, if it is loaded after the first call.

    The folder is removed at the end.
    """
    folder = tempfile.mkdtemp(prefix="fv-schedule-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    schedule.write_to(Path(folder))
    return Path(folder)
