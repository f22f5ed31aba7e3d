"""Finding and running what `experiments/` holds: trainings and benches.

An experiment is a file whose docstring is its record and whose `get_config()` gives its
settings. A bench is `bench_NAME.py` with `Settings` (a dataclass) and `run(settings)`.
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from fv_jax.experiment_config import NetworkExperiment, TokenizerExperiment
from fv_jax.training.loop import fit

Parse = Callable[..., Any]
OUT = Path("out")


def folder() -> Path:
    """The experiments folder: of the working directory, else of the source tree."""
    for place in (Path("experiments"), Path(__file__).parent.parent / "experiments"):
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


def train(name: str, parse: Parse) -> int:
    """`fv train NAME`: train or continue, and say where the result lies."""
    module = load(name)
    if not hasattr(module, "get_config"):
        raise ValueError(f"{name} has no get_config(), so it is no training; see experiments/")
    default = module.get_config()
    config = parse(
        type(default), default=default, prog=f"fv train {name}", description=module.__doc__
    )
    home = Path(config.run.folder or OUT / config.name)
    task = build_task(config)
    model = fit(task, config, home)
    print(f"trained weights: {model}")
    print(f"go on with: {task.next_command(model)}")
    return 0


def build_task(config: NetworkExperiment | TokenizerExperiment):
    """The `loop.Task` of an experiment."""
    if isinstance(config, TokenizerExperiment):
        from fv_jax.training.tokenizer_task import TokenizerTask

        return TokenizerTask(config, folder=OUT / "pixels")
    from fv_jax.training.network_task import NetworkTask

    return NetworkTask(config, folder=OUT / "tokens")


def bench(name: str, parse: Parse) -> int:
    """`fv bench NAME`: measure, print, and write the results."""
    module = load(name, "bench_")
    settings = parse(module.Settings, prog=f"fv bench {name}", description=module.__doc__)
    module.run(settings)
    return 0
