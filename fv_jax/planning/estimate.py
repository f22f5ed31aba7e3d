"""`fv train EXPERIMENT --estimate`: what a training will need, said before anything runs."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import jax

from fv_jax.config.model import require
from fv_jax.config.training import NetworkExperiment, TokenizerExperiment
from fv_jax.data.token_cache import TokenFolder, tokens_at
from fv_jax.planning.costs import StepCosts, described_devices, step_costs
from fv_jax.training.accelerators import ACCELERATORS
from fv_jax.training.flops import step_flops
from fv_jax.training.mesh import resolved
from fv_jax.training.tasks.network_loss import NetworkLoss, of_expected_data
from fv_jax.training.tasks.tokenizer_losses import TokenizerLoss

MFU = 0.4  # of large models on TPUs and GPUs, when all goes well
_SHOWN = ("A100-80GB", "H100 SXM", "H200", "TPU v4", "TPU v5e", "TPU v5p", "TPU v6e")


def estimate(
    config: NetworkExperiment | TokenizerExperiment, *, devices: int | None, topology: str | None
) -> None:
    """Print parameters, bytes per device, FLOPs, tokens, and hours on a list of accelerators.

    Args:
        config: the experiment; its data need not be here if `config.expected` knows it.
        devices: how many to plan for; None for those that are here.
        topology: TPU slice to plan for, such as "v5e:4x4", instead.

    Raises:
        ValueError: the mesh does not fit the devices, or nothing is known of the data.
    """
    planned = _devices(devices, topology)
    mesh = resolved(config.run.mesh, len(planned))
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, mesh=mesh))
    task, clips, source = _task(config, len(planned))
    print(f"{config.name}: compiling the step for {len(planned)} devices ...", flush=True)
    costs = step_costs(task, config.run, config.optimizer, planned)
    print("\n".join(lines(config, costs, task.tokens_per_step, clips, source)))


def hours(
    config: NetworkExperiment | TokenizerExperiment, *, devices: int, accelerator: str
) -> float:
    """Hours of the run on so many accelerators at `MFU`, as `estimate` says; nothing is compiled.

    Raises:
        ValueError: nothing is known of the data.
    """
    task = _task(config, devices)[0]
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(lambda: task.init(jax.random.key(0)))
    flops = step_flops(task.loss, params, {**task.batch_shapes(), **task.frozen}, key)
    peak = {known.name: known.peak_flops for known in ACCELERATORS}[accelerator]
    return flops * config.run.steps / (MFU * peak * devices) / 3600


def lines(config: Any, costs: StepCosts, tokens: int, clips: int | None, source: str) -> list[str]:
    """The estimate as text.

    Args:
        config: the experiment.
        costs: what its step costs.
        tokens: tokens of a step, padding included.
        clips: clips of an epoch; None where the data has no epochs.
        source: where the sizes of the data come from.
    """
    run, devices = config.run, 1
    for size in costs.mesh.values():
        devices *= size
    gib = lambda size: f"{size / 2**30:.2f} GiB"
    mesh = " x ".join(f"{name} {size}" for name, size in costs.mesh.items() if size > 1) or "1"
    every = "" if run.accumulate == 1 else f", in {run.accumulate} parts"
    out = [
        f"{config.name} on {devices} devices ({mesh}), {source}",
        f"  parameters        {costs.parameters / 1e6:.1f} M",
        f"  a step            {run.batch_size} rows{every}, {tokens:,} tokens, "
        f"{costs.flops:.3g} model FLOPs",
    ]
    if clips:
        row = tokens // run.batch_size
        out += [
            f"  an epoch          {clips:,} clips, {clips * row:,} tokens, "
            f"{clips / run.batch_size:,.0f} steps",
            f"  the run           {run.steps:,} steps, {run.steps * run.batch_size / clips:,.1f} "
            "epochs",
        ]
    else:
        out.append(f"  the run           {run.steps:,} steps, {run.steps * tokens:,} tokens")
    out += [
        f"  bytes per device  {gib(costs.bytes_per_device)}: weights {gib(costs.weights)}, average "
        f"{gib(costs.average)}, optimizer {gib(costs.optimizer)},",
        f"                    gradients and activations {gib(costs.temporary)} (by XLA's memory "
        f"analysis for {costs.platform})",
        f"  received a step   {costs.received / 1e9:.2f} GB by each device",
    ]
    if costs.mfu is not None:
        out.append(
            f"  compiler's time   {costs.seconds or 0:.4f} s a step, of which "
            f"{costs.waiting or 0:.4f} s waiting: MFU {costs.mfu:.1%} of v5e chips"
        )
    total = costs.flops * run.steps
    out.append(f"  hours on {devices} of   at {MFU:.0%} MFU")
    for accelerator in ACCELERATORS:
        if accelerator.name in _SHOWN:
            hours = total / (MFU * accelerator.peak_flops * devices) / 3600
            fits = costs.bytes_per_device < 0.95 * accelerator.memory_bytes
            note = "" if fits else "   (does not fit: raise --run.accumulate)"
            out.append(
                f"    {accelerator.name:<14}{hours:>12,.2f} h {hours * devices:>12,.2f} "
                f"device-hours{note}"
            )
    return out


def _devices(devices: int | None, topology: str | None) -> list:
    if topology:
        require(devices is None, "give --devices or --topology, not both")
        return described_devices(topology)
    if devices is None:
        return jax.devices()
    require(devices >= 1, f"--devices must be >= 1, got {devices}")
    # Nothing is run: what is compiled for so many CPUs has the shapes of any device.
    with contextlib.suppress(RuntimeError):  # JAX has looked for devices before
        jax.config.update("jax_num_cpu_devices", devices)
        jax.config.update("jax_platforms", "cpu")
    there = jax.devices("cpu")
    require(
        len(there) >= devices,
        f"--devices {devices}: JAX already runs with {len(there)} CPU devices in this process",
    )
    return there[:devices]


def _task(config: Any, devices: int) -> tuple[Any, int | None, str]:
    """What is compiled, clips of an epoch, and where both are known from."""
    if isinstance(config, TokenizerExperiment):
        loss = TokenizerLoss(config)
        return _TokenizerStep(config, loss), None, "from the settings alone"
    if folder := tokens_at(config.data):
        from fv_jax.training.tasks.network import network_task

        task = network_task(config, Path("out/tokens"), devices)
        same = NetworkLoss(config, task.sequence, task.network.code_levels, devices)
        return same, len(TokenFolder(folder)), f"data {config.data}"
    require(
        config.expected is not None,
        f"{config.name} does not know its data's sizes (`expected`); make tokens first, with "
        f"`fv tokenize {config.data} --out FOLDER`, and give --data FOLDER",
    )
    return of_expected_data(config, devices), config.expected.clips, "data as expected"


class _TokenizerStep:
    """The part of `TokenizerTask` that needs no clips."""

    def __init__(self, config: TokenizerExperiment, loss: TokenizerLoss):
        self.loss, self.init, self.batch_shapes = loss, loss.init, loss.batch_shapes
        self.frozen = {"lpips": loss.lpips} if loss.lpips else {}
        self.tokens_per_step = 2 * config.run.batch_size * config.crop**2

    def axes(self) -> None:
        """As `TokenizerTask.axes`."""
        return None
