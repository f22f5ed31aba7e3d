"""`fv train`: a training, begun or continued, or what it would cost."""

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import jax
import tyro

from fv_jax.cli.commands import Train
from fv_jax.cli.parsing import parse
from fv_jax.cli.paths import check_apart, place_of
from fv_jax.config.model import TokenSettings
from fv_jax.config.training import CodebookExperiment, FeaturesExperiment
from fv_jax.files import buckets
from fv_jax.training import codebook, experiments, loop
from fv_jax.training import distributed as cluster
from fv_jax.training.mesh import check_batch, make_layout


@dataclasses.dataclass(frozen=True)
class Flags:
    """Instead of training, or beside it."""

    estimate: tyro.conf.FlagCreatePairsOff[bool] = False
    """Say how many bytes, FLOPs and hours the training takes, and stop."""
    devices: Annotated[tyro.conf.DisallowNone[int | None], tyro.conf.arg(metavar="N")] = None
    """Estimate for so many devices, instead of those that are here."""
    topology: Annotated[tyro.conf.DisallowNone[str | None], tyro.conf.arg(metavar="NAME")] = None
    """Estimate for a TPU slice such as v5e:2x4, by its own compiler."""
    profile: tyro.conf.FlagCreatePairsOff[bool] = False
    """Record some steps for a profiler."""
    log: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ("tensorboard",)
    """Where numbers and pictures go, beside log.jsonl in the run's folder."""

    def __post_init__(self) -> None:
        if self.devices is not None and self.devices < 1:
            raise ValueError(f"--devices must be >= 1, got {self.devices}")
        for name in ("devices", "topology"):
            if getattr(self, name) is not None and not self.estimate:
                raise ValueError(
                    f"--{name} is only for --estimate; a training takes the devices that there are"
                )


def train(command: Train) -> int:
    """Train or continue, and say where the result lies. Returns the exit code."""
    module = experiments.load_training(command.experiment)
    flags, config = settings_of(module, command.settings, prog=f"fv train {command.experiment}")
    if flags.estimate:
        if isinstance(config, FeaturesExperiment | CodebookExperiment):
            raise ValueError(f"--estimate knows no costs of {config.name}; it trains in minutes")
        from fv_jax.planning.estimate import estimate

        estimate(config, devices=flags.devices, topology=flags.topology)
        return 0
    if isinstance(config, CodebookExperiment):
        home = config.folder or str(experiments.OUT / config.name)
        _check_apart(config, home, flag="--folder")
        with buckets.carried(home) as work:
            trained, warning = codebook.train(config, work.folder)
        model = str(trained).replace(str(work.folder), home)
        size = "" if config.size == TokenSettings.size else f" --size {config.size}"
        print(f"tokenizer: {model}")
        print(
            f"go on with: fv tokenize {shlex.quote(config.data)} --tokenizer {model}{size} "
            "--out out/tokens/mine"
        )
        if warning:
            print(f"fv: {warning}", file=sys.stderr)
        return 0
    cluster.join()  # before anything asks JAX for a device
    home = config.run.folder or str(experiments.OUT / config.name)
    _check_apart(config, home, flag="--run.folder")
    with cluster.leaving_on_failure():
        # Before the data, which may take long to read.
        check_batch(make_layout(config.run.mesh), config.run.batch_size, config.run.accumulate)
        task = experiments.build_task(config)
        together = lambda: cluster.agree(True)
        with buckets.carried(home, process=jax.process_index(), ready=together) as work:
            model = loop.train(
                task, config, work.folder, profile=flags.profile, log=flags.log, saved=work.carry,
                shared=not buckets.is_bucket(home),
            )  # fmt: skip
    if cluster.is_first():
        print(
            f"trained weights: {model}\ngo on with: {task.next_command(model)}".replace(
                str(work.folder), home
            )
        )
        if warning := task.warning(model):
            print(f"fv: {warning}", file=sys.stderr)
    return 0


def _check_apart(config: Any, home: str, *, flag: str) -> None:
    """See to it that pictures of a training do not become clips that it is trained on."""
    for name in ("data", "valid"):
        check_apart(Path(home), place_of(getattr(config, name, "")), flag=flag)


def settings_of(module: ModuleType, args: Sequence[str], prog: str = "") -> tuple[Flags, Any]:
    """Flags and settings that the words mean for an experiment.

    Raises:
        ValueError: a word that is none of the flags, or a value that a flag cannot have.
    """
    kind = _variant(module)
    # What is chosen here gives the defaults of the settings, which are among the other words.
    variant, _ = parse(kind, args, return_unknown_args=True, add_help=False)
    default = module.get_config(**dataclasses.asdict(variant))
    box = lambda kind, title: Annotated[kind, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name=title)]
    parts = [
        ("variant", box(kind, "variant"), variant),
        ("flags", box(Flags, "other"), Flags()),
        ("config", Annotated[type(default), tyro.conf.arg(name="")], default),
    ]
    everything = dataclasses.make_dataclass(
        "Everything", parts if dataclasses.fields(kind) else parts[1:], frozen=True
    )
    about = experiments.introduction(module)
    chosen = parse(everything, args, prog=prog, description=about)
    return chosen.flags, chosen.config


def _variant(module: ModuleType) -> type:
    """A dataclass of `get_config`'s parameters, each a flag."""
    fields = []
    for name, (choices, default) in experiments.variants(module.get_config).items():
        of_two = isinstance(default, bool)
        what = f"Whether it is {name}" if of_two else f"Which {name} of the experiment"
        text = tyro.conf.arg(help=f"{what}; the defaults follow.")
        fields.append((name, Annotated[bool if of_two else Literal[choices], text], default))
    kind = dataclasses.make_dataclass("Variant", fields, frozen=True)
    kind.__doc__ = "Which of the experiment's trainings; the settings' defaults follow from it."
    return kind
