"""Finding what `experiments/` holds: trainings and benches.

An experiment is a file whose docstring is its record and whose `get_config()` gives its
settings. It may have variants: keyword parameters of `get_config` that are `Literal`s or `bool`s,
with a default, become flags: `stage="tokenizer"` is `--stage tokenizer`, `faithful=True` is
`--faithful`.
A bench is `benches/NAME.py` with `Settings` (a dataclass) and `run(settings)`.
"""

import importlib.util
import inspect
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from fv_jax.config.training import (
    FeaturesExperiment,
    NetworkExperiment,
    TokenizerExperiment,
)

OUT = Path("out")  # of every training that is not given another folder


def folder() -> Path:
    """The experiments folder: of the working directory, else of the source tree."""
    for place in (Path("experiments"), Path(__file__).parents[2] / "experiments"):
        if place.is_dir():
            return place
    raise FileNotFoundError("no folder experiments/ here; run fv inside a clone of the project")


def load(name: str, kind: Literal["", "benches"] = "") -> ModuleType:
    """Import a training, or one of the benches, by its name or by the path of a file.

    Raises:
        FileNotFoundError: no such file; the message lists what there is.
    """
    path = Path(name)
    if path.suffix != ".py":
        path = folder() / kind / f"{name.replace('-', '_')}.py"
    if not path.is_file():
        what = "bench" if kind else "experiment"
        raise FileNotFoundError(f"no {what} {name!r}; there are: {', '.join(names(kind))}")
    home = ".".join(["experiments", kind]).rstrip(".")
    module_name = f"{home}.{path.stem}" if path.parent == folder() / kind else path.stem
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None  # a .py file always has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    root = str(folder().resolve().parent)
    if root not in sys.path:
        sys.path.insert(0, root)  # for `experiments.baselines`
    sys.modules[module_name] = module  # where tyro looks for the source of a field's help
    spec.loader.exec_module(module)
    return module


def load_training(name: str) -> ModuleType:
    """`load`, for a training.

    Raises:
        ValueError: the file is none.
    """
    module = load(name)
    if not hasattr(module, "get_config"):
        raise ValueError(f"{name} has no get_config(), so it is no training; see experiments/")
    return module


def introduction(module: ModuleType) -> str:
    """Two lines for `--help`: what it is, and where the rest of its docstring is to be read."""
    first = " ".join((module.__doc__ or "").partition("\n\n")[0].split())
    path, home = Path(module.__file__ or "").resolve(), folder().resolve()
    shown = Path("experiments", path.relative_to(home)) if path.is_relative_to(home) else path
    return f"{first}\n\nIts record is in {shown}."


def names(kind: Literal["", "benches"] = "") -> list[str]:
    """Trainings, or benches, by the name that the command line takes."""
    has = "def run(settings" if kind else "def get_config("
    paths = [
        path for path in sorted((folder() / kind).glob("*.py")) if has in path.read_text("utf-8")
    ]
    return [path.stem.replace("_", "-") if kind else path.stem for path in paths]


def variants(get_config: Callable) -> dict[str, tuple[tuple[Any, ...], Any]]:
    """What each keyword parameter of `get_config` can be, and what it is if nothing is said.

    Raises:
        TypeError: a parameter that is neither a `Literal` nor a `bool`, or has no default.
    """
    hints, found = typing.get_type_hints(get_config), {}
    for name, parameter in inspect.signature(get_config).parameters.items():
        hint = hints.get(name)
        choices = (False, True) if hint is bool else typing.get_args(hint)
        if not choices or parameter.default not in choices:
            raise TypeError(
                f"get_config's {name} must be a Literal or a bool with one of its values as default"
            )
        found[name] = (choices, parameter.default)
    return found


def build_task(config: NetworkExperiment | TokenizerExperiment | FeaturesExperiment):
    """The `loop.Task` of an experiment."""
    if isinstance(config, FeaturesExperiment):
        from fv_jax.training.tasks.features import FeaturesTask

        return FeaturesTask(config)
    if isinstance(config, TokenizerExperiment):
        from fv_jax.training.tasks.tokenizer import TokenizerTask

        return TokenizerTask(config, folder=OUT / "pixels")
    from fv_jax.training.tasks.network import network_task

    return network_task(config, folder=OUT / "tokens")
