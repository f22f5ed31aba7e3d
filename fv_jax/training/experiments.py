"""Finding and running what `experiments/` holds: trainings and benches.

An experiment is a file whose docstring is its record and whose `get_config()` gives its
settings. It may have variants: keyword parameters of `get_config` that are `Literal`s with a
default become flags of the command line, `stage="tokenizer"` is `--stage tokenizer`.
A bench is `bench_NAME.py` with `Settings` (a dataclass) and `run(settings)`.
"""

import argparse
import dataclasses
import importlib.util
import inspect
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import tyro

from fv_jax.config.training import (
    FeaturesExperiment,
    NetworkExperiment,
    TokenizerExperiment,
)
from fv_jax.training.loop import fit
from fv_jax.training.mesh import check_batch, make_layout

Parse = Callable[..., Any]
OUT = Path("out")


@dataclasses.dataclass(frozen=True)
class Flags:
    """What `fv train` is asked for beside the experiment's settings.

    Attributes:
        estimate: say what the training would cost, and do nothing else.
        devices: that the estimate is for; None for as many as there are.
        topology: TPU slice that the estimate is compiled for, such as "v5e:2x4".
        profile: record some steps for a profiler.
    """

    estimate: bool = False
    devices: int | None = None
    topology: str | None = None
    profile: bool = False

    def __post_init__(self) -> None:
        if self.devices is not None and self.devices < 1:
            raise ValueError(f"--devices must be >= 1, got {self.devices}")
        for name in ("devices", "topology"):
            if getattr(self, name) is not None and not self.estimate:
                raise ValueError(
                    f"--{name} is only for --estimate; a training takes the devices that there are"
                )


def folder() -> Path:
    """The experiments folder: of the working directory, else of the source tree."""
    for place in (Path("experiments"), Path(__file__).parents[2] / "experiments"):
        if place.is_dir():
            return place
    raise FileNotFoundError("no folder experiments/ here; run fv inside a clone of the project")


def load(name: str, prefix: str = "") -> ModuleType:
    """Import experiments/{prefix}{name}.py, or the file that `name` is a path of.

    Raises:
        FileNotFoundError: no such file; the message lists what there is.
    """
    path = Path(name)
    if path.suffix != ".py":
        path = folder() / f"{prefix}{name.replace('-', '_')}.py"
    if not path.is_file():
        raise FileNotFoundError(f"no experiment {name!r}; there are: {', '.join(names(prefix))}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None  # a .py file always has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    root = str(path.resolve().parent.parent)
    if root not in sys.path:
        sys.path.insert(0, root)  # for `experiments.baselines`
    sys.modules[path.stem] = module  # where tyro looks for the source of a field's help
    spec.loader.exec_module(module)
    return module


def names(prefix: str = "") -> list[str]:
    """Trainings (`prefix` "") or benches ("bench_") by the name that the command line takes."""
    paths = sorted(folder().glob(f"{prefix}*.py"))
    if not prefix:
        return [path.stem for path in paths if "def get_config(" in path.read_text("utf-8")]
    return [path.stem.removeprefix(prefix).replace("_", "-") for path in paths]


def train(name: str, args: Sequence[str], parse: Parse) -> int:
    """`fv train NAME ARGS`: train or continue, and say where the result lies."""
    module = load(name)
    if not hasattr(module, "get_config"):
        raise ValueError(f"{name} has no get_config(), so it is no training; see experiments/")
    flags, variant, rest = split_flags(module.get_config, args)
    default = module.get_config(**variant)
    config = parse(
        type(default), rest, default=default, prog=f"fv train {name}",
        description=f"{module.__doc__}\n{_parser(module.get_config).format_help()}",
        config=(tyro.conf.AvoidSubcommands,),
    )  # fmt: skip
    if flags.estimate:
        if isinstance(default, FeaturesExperiment):
            raise ValueError(f"--estimate knows no costs of {name}; it trains in minutes")
        from fv_jax.planning.estimate import estimate

        estimate(config, devices=flags.devices, topology=flags.topology)
        return 0
    from fv_jax.training import distributed as cluster

    cluster.join()  # before anything asks JAX for a device
    home = Path(config.run.folder or OUT / config.name)
    with cluster.leaving_on_failure():
        # Before the data, which may take long to read.
        check_batch(make_layout(config.run.mesh), config.run.batch_size, config.run.accumulate)
        task = build_task(config)
        model = fit(task, config, home, profile=flags.profile)
    if cluster.is_first():
        print(f"trained weights: {model}")
        print(f"go on with: {task.next_command(model)}")
    return 0


def split_flags(
    get_config: Callable, args: Sequence[str]
) -> tuple[Flags, dict[str, str], list[str]]:
    """Flags, the variant that they choose, and the arguments that are settings.

    Raises:
        ValueError: a flag's value is none of those it can have.
    """
    known, rest = _parser(get_config).parse_known_args(args)
    values = vars(known)
    flags = Flags(**{field.name: values.pop(field.name) for field in dataclasses.fields(Flags)})
    return flags, values, rest


def variants(get_config: Callable) -> dict[str, tuple[tuple[str, ...], str]]:
    """What each keyword parameter of `get_config` can be, and what it is if nothing is said.

    Raises:
        TypeError: a parameter that is no `Literal`, or has no default.
    """
    hints, found = typing.get_type_hints(get_config), {}
    for name, parameter in inspect.signature(get_config).parameters.items():
        choices = typing.get_args(hints.get(name))
        if not choices or parameter.default not in choices:
            raise TypeError(
                f"get_config's {name} must be a Literal with one of its texts as default"
            )
        found[name] = (choices, parameter.default)
    return found


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _parser(get_config: Callable) -> argparse.ArgumentParser:
    """Of the flags; tyro parses what it leaves."""
    parser = _Parser(usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    variant = parser.add_argument_group("variants, which change the settings' defaults")
    for name, (choices, default) in variants(get_config).items():
        variant.add_argument(
            f"--{name.replace('_', '-')}", choices=choices, default=default,
            help=f"(default: {default})",
        )  # fmt: skip
    more = parser.add_argument_group("instead of training, or beside it")
    more.add_argument(
        "--estimate", action="store_true",
        help="say how many bytes, FLOPs and hours the training takes, and stop",
    )  # fmt: skip
    more.add_argument("--devices", type=int, metavar="N", help="estimate for so many devices")
    more.add_argument("--topology", metavar="NAME", help="estimate for a TPU slice such as v5e:2x4")
    more.add_argument("--profile", action="store_true", help="record some steps for a profiler")
    return parser


def build_task(config: NetworkExperiment | TokenizerExperiment | FeaturesExperiment):
    """The `loop.Task` of an experiment."""
    if isinstance(config, FeaturesExperiment):
        from fv_jax.training.tasks.features import FeaturesTask

        return FeaturesTask(config)
    if isinstance(config, TokenizerExperiment):
        from fv_jax.training.tasks.tokenizer import TokenizerTask

        return TokenizerTask(config, folder=OUT / "pixels")
    from fv_jax.training.tasks.network import NetworkTask

    return NetworkTask(config, folder=OUT / "tokens")


def bench(name: str, args: Sequence[str], parse: Parse) -> int:
    """`fv bench NAME ARGS`: measure, print, and write the results."""
    module = load(name, "bench_")
    settings = parse(module.Settings, args, prog=f"fv bench {name}", description=module.__doc__)
    module.run(settings)
    return 0
