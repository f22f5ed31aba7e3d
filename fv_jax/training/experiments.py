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

from fv_jax.config.registry import choices
from fv_jax.config.training import (
    FeaturesExperiment,
    NetworkExperiment,
    TokenizerExperiment,
)

OUT = Path("out")  # of every training that is not given another folder


def folders() -> list[Path]:
    """Where experiments lie: ours first, then those of the working directory, if they are others.

    A wheel has ours inside the package; in the source tree they stand beside it.
    """
    package = Path(__file__).parents[1]
    ours = [package / "experiments", package.parent / "experiments"]
    theirs = Path.cwd() / "experiments"
    found = [place for place in (*ours, theirs) if place.is_dir()]
    return found[:1] if found[-1].samefile(found[0]) else [found[0], found[-1]]


def find(name: str, kind: Literal["", "benches"] = "") -> Path:
    """The file of a training, or of a bench, by its name or its path; ours come first.

    Raises:
        FileNotFoundError: no such file; the message lists what there is.
    """
    path = Path(name)
    if path.suffix != ".py":
        file = f"{name.replace('-', '_')}.py"
        paths = (home / kind / file for home in folders())
        path = next((path for path in paths if path.is_file()), path)
    if path.suffix != ".py" or not path.is_file():
        what = "bench" if kind else "experiment"
        raise FileNotFoundError(f"no {what} {name!r}; {choices(name, names(kind))}")
    return path


def load(name: str, kind: Literal["", "benches"] = "") -> ModuleType:
    """Import a training, or one of the benches, by its name or by the path of a file.

    Raises:
        FileNotFoundError: no such file; the message lists what there is.
    """
    path = find(name, kind)
    _import_package()
    is_ours = path.resolve().parent == (folders()[0] / kind).resolve()
    home = ".".join(["experiments", kind]).rstrip(".")
    return _import(f"{home}.{path.stem}" if is_ours else path.stem, path)


def _import_package() -> None:
    """Let `experiments` mean ours in every import, then the working directory's."""
    ours, *theirs = folders()
    package = _import("experiments", ours / "__init__.py")
    package.__path__ = [str(ours), *map(str, theirs)]


def _import(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # a .py file always has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where tyro looks for the source of a field's help
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
    path, here = Path(module.__file__ or "").resolve(), Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return f"{first}\n\nIts record is in {shown}."


def names(kind: Literal["", "benches"] = "") -> list[str]:
    """Trainings, or benches, by the name that the command line takes."""
    has = "def run(settings" if kind else "def get_config("
    found = {
        path.stem.replace("_", "-") if kind else path.stem
        for home in folders()
        for path in (home / kind).glob("*.py")
        if has in path.read_text("utf-8")
    }
    return sorted(found)


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
