"""What does a step exchange, and what does a device hold, on meshes of different shape?

The paper's key-frame step (`ucf101.py`: 302 M parameters in blocks, rows of 6,656 tokens) is
compiled, not run: for so many fake CPU devices, or for a TPU slice by its own compiler
(`--topology v5e:4x4`, with libtpu installed). Collectives are counted through all loops, bytes are
those that one device receives.

Of a TPU slice also the schedule's length as the compiler estimates it, cycle by cycle, with
collectives at the links' speed, and the MFU which that would be. (The compiler's own sum of
`optimal_seconds` is of no use: it counts a loop once, and every collective as -1 second.)

    cost   two minutes of CPU time; with `--topology` a minute or two for each mesh (estimated)
"""

import dataclasses
from pathlib import Path

import jax

from experiments import ucf101
from fv_jax.config.training import MeshConfig, NetworkExperiment
from fv_jax.planning.costs import StepCosts, described_devices, step_costs
from fv_jax.reporting.results import markdown, record
from fv_jax.training.tasks.network_loss import of_expected_data

MESHES = (
    MeshConfig(data=-1),
    MeshConfig(data=1, fsdp=-1),
    MeshConfig(data=-1, fsdp=4),
    MeshConfig(data=1, fsdp=-1, tensor=2),
    MeshConfig(data=1, fsdp=-1, sequence=2),
    MeshConfig(data=1, fsdp=-1, tensor=2, sequence=2),
    MeshConfig(data=1, sequence=-1),
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to compile for, and where to write it."""

    topology: str = ""
    """A TPU slice such as v5e:4x4; "" for fake CPU devices."""
    devices: int = 16
    """Fake CPU devices."""
    batch_size: int = 16
    """Rows of a step, on all devices together."""
    meshes: tuple[int, ...] = ()
    """Which rows of the table, by number from 0; none for all."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


def run(settings: Settings) -> None:
    """Compile and record."""
    devices = _devices(settings)
    chosen = [MESHES[i] for i in settings.meshes] or list(MESHES)
    costs = []
    for mesh in chosen:
        costs.append(costs_of(mesh, devices, settings.batch_size))
        print(f"compiled for {_name(costs[-1])}", flush=True)
    header = [
        "mesh", "GiB a device", "of it state", "all-gather, GB", "all-reduce, GB", "others, GB",
        "collectives",
    ]  # fmt: skip
    if settings.topology:
        header += ["schedule, ms", "of it waiting", "MFU"]
    table = markdown(header, [_row(cost) for cost in costs])
    values = {"costs": [dataclasses.asdict(cost) for cost in costs]}
    record("mesh", settings, values, table, variant="tpu" if settings.topology else "")


def costs_of(mesh: MeshConfig, devices: list, batch_size: int) -> StepCosts:
    """Costs of the paper's key-frame step; a row for each device group that has rows."""
    config = ucf101.get_config(stage="key_frames", preset="paper")
    assert isinstance(config, NetworkExperiment)
    run = dataclasses.replace(config.run, mesh=mesh, batch_size=batch_size, accumulate=1)
    config = dataclasses.replace(config, run=run)
    return step_costs(of_expected_data(config, len(devices)), run, config.optimizer, devices)


def _devices(settings: Settings) -> list:
    if settings.topology:
        return described_devices(settings.topology)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", settings.devices)
    return jax.devices()


def _name(cost: StepCosts) -> str:
    return " x ".join(f"{name} {size}" for name, size in cost.mesh.items() if size > 1) or "1"


def _row(cost: StepCosts) -> list:
    gigabytes = lambda kind: cost.collectives[kind].bytes / 1e9 if kind in cost.collectives else 0.0
    named = gigabytes("all-gather") + gigabytes("all-reduce")
    row = [
        _name(cost),
        round(cost.bytes_per_device / 2**30, 2),
        round((cost.bytes_per_device - cost.temporary) / 2**30, 2),
        round(gigabytes("all-gather"), 2),
        round(gigabytes("all-reduce"), 2),
        round(cost.received / 1e9 - named, 2),
        sum(traffic.count for traffic in cost.collectives.values()),
    ]
    if cost.seconds is not None and cost.waiting is not None:
        row += [round(cost.seconds * 1e3, 1), round(cost.waiting * 1e3, 1)]
        row.append(f"{cost.mfu or 0:.1%}")
    return row
