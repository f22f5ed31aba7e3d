"""What `fv evaluate` does: flags in, an evaluation, a table and a result out."""

import dataclasses
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fv_jax.cli.paths import check_apart, place_of
from fv_jax.cli.progress import working
from fv_jax.config.registry import choices
from fv_jax.config.training import NetworkExperiment
from fv_jax.evaluation.clip_sets import scored
from fv_jax.evaluation.evaluate import Comparison, evaluate
from fv_jax.evaluation.folders import compare_folders
from fv_jax.evaluation.metrics import METRICS, make_metrics
from fv_jax.evaluation.protocols import Protocol, changed, preset_of, protocol
from fv_jax.evaluation.results import (
    name_of_clips,
    name_of_experiment,
    result_path,
    write_result,
)
from fv_jax.files import only_process_in
from fv_jax.metrics.interface import Metric, Missing, Weights
from fv_jax.reporting.results import changed_settings
from fv_jax.reporting.tables import read_result
from fv_jax.training import experiments

if TYPE_CHECKING:
    from fv_jax.cli.commands import Evaluate


def run(command: "Evaluate") -> int:
    """Score, print and write. Returns the exit code.

    Raises:
        ValueError, FileNotFoundError: what is compared, or a setting, is unfit.
    """
    finish = (_experiment if len(command.what) == 1 else _folders)(command)
    with only_process_in(command.places.cache):  # what is to be read is good
        return finish()


def _folders(command: "Evaluate") -> Callable[[], int]:
    if len(command.what) != 2:
        raise ValueError(
            f"give REAL FAKE (two folders or .npz) or EXPERIMENT, got {len(command.what)} names"
        )
    default, given = type(command)(), command.changes
    of_fakes = dataclasses.replace(
        default.changes, repeats=given.repeats, fake_count=given.fake_count
    )
    made_here = dataclasses.replace(default, sampling=command.sampling, changes=of_fakes)
    if flags := _flags(made_here):
        names = ", ".join(flag.split()[0] for flag in flags)
        raise ValueError(f"{names}: only for an experiment, whose clips are made here")
    real, fake = map(Path, command.what)
    _check_apart(command, real, fake)
    name = command.places.name or name_of_clips(fake)
    _refuse_another(command, name)
    rules = dataclasses.replace(_protocol(command, "plain"), repeats=1)  # what is there is one run
    comparison = compare_folders(real, fake, rules)
    first = comparison.sets.real[0]
    with working(f"opening {first.name}"):
        metrics = _metrics(command, rules, len(scored(first, rules)), first.name)
    return lambda: _finish(command, name, comparison, metrics)


def _experiment(command: "Evaluate") -> Callable[[], int]:
    from fv_jax.evaluation.samples import compare_samples, fitted, model_folder
    from fv_jax.generation.generator import Generator

    what, sampling = command.what[0], command.sampling
    if Path(what).is_dir() or Path(what).suffix == ".npz":
        raise ValueError(f"{what!r} is one set of clips; give two, REAL FAKE, or an experiment")
    config = _config(command, what)
    rules = _protocol(command, preset_of(config.name), given=1)
    _check_apart(command, place_of(sampling.source))
    name = command.places.name or name_of_experiment(config.name, rules)
    _refuse_another(command, name)
    trained = Path(config.run.folder or experiments.OUT / config.name) / "model"
    folder = model_folder(config, trained, sampling.model)
    with working(f"opening {folder}"):
        generator = Generator.load(str(folder))
    rules = fitted(rules, generator, sampling.options)
    metrics = _metrics(command, rules, rules.frames, f"protocol {rules.name}")
    compared = compare_samples(
        config, folder, generator, rules, source=sampling.source, options=sampling.options,
        seed=sampling.seed, batch_size=sampling.batch_size, home=command.places.cache / "clips",
    )  # fmt: skip
    return lambda: _finish(command, name, compared(), metrics)


def _check_apart(command: "Evaluate", *read: Path | None) -> None:
    """See to it that no result becomes a clip of what is compared the next time."""
    for place in read:
        for flag in ("out", "cache"):
            check_apart(getattr(command.places, flag), place, flag=f"--{flag}")


def _config(command: "Evaluate", name: str) -> NetworkExperiment:
    """Settings of the experiment's last stage, or of what the flags say."""
    module = experiments.load_training(name)
    kinds, chosen = experiments.variants(module.get_config), {}
    if "stage" in kinds and "interpolation" in kinds["stage"][0]:
        chosen["stage"] = "interpolation"
    for flag in ("stage", "preset", "faithful"):
        value = getattr(command.sampling, flag)
        if value and value not in kinds.get(flag, ((), ""))[0]:
            said = f"--{flag}" if value is True else f"--{flag} {value}"
            can = choices(str(value), kinds.get(flag, ((), ""))[0])
            raise ValueError(f"{name} has no {said}; {can}")
        if value:
            chosen[flag] = value
    config = module.get_config(**chosen)
    if not isinstance(config, NetworkExperiment):
        raise ValueError(f"{config.name} trains no network, so it makes no videos")
    return config


def _protocol(command: "Evaluate", default: str, given: int = 0) -> Protocol:
    name, changes = command.protocol or default, changed(command.changes)
    if name == "plain":
        changes.setdefault("given_frames", given)
    return protocol(name, command.profile, **changes)


def _metrics(
    command: "Evaluate", rules: Protocol, length: int, whose: str
) -> dict[str, Metric | Missing]:
    """What can be computed; prints what cannot, and why."""
    files = {name: path for name, path in vars(command.weights).items() if path}
    weights = Weights(files, command.allow_unverified_weights)
    metrics = make_metrics(rules, weights, length, whose, command.changes.metrics or ())
    for name, metric in metrics.items():
        if isinstance(metric, Missing):
            print(f"{METRICS[name].label} will be null: {metric.reason}")
    return metrics


def _finish(
    command: "Evaluate", name: str, comparison: Comparison, metrics: dict[str, Metric | Missing]
) -> int:
    """Score, write, and print the table."""
    rules, cache = comparison.protocol, command.places.cache
    result = evaluate(comparison.sets, rules, metrics, cache / "numbers")
    for warning in result["warnings"]:
        print(f"fv: warning: {warning}", file=sys.stderr)
    path = result_path(command.places.out, name)
    write_result(
        path, name, comparison, metrics, result,
        command=" ".join(["fv evaluate", *map(shlex.quote, command.what), *_flags(command)]),
        overrides=_overrides(command), cache=cache,
    )  # fmt: skip
    for metric in METRICS:
        if metric in result["metrics"]:
            print(f"{METRICS[metric].label:<12}{_value(result['metrics'][metric])}")
    counts = result["counts"]
    print(
        f"{counts['fake']} fake and {counts['real_pieces']} real clips of {counts['frames']} "
        f"frames at {counts['width']}x{counts['height']} px, protocol {rules.name}, profile "
        f"{rules.profile}; {path}"
    )
    return 0


def _value(metric: dict[str, Any]) -> str:
    if metric["value"] is None:
        return f"null ({metric['reason']})"
    spread = f" +- {metric['deviation']:.4g}" if metric.get("deviation") is not None else ""
    return f"{metric['value']:.6g}{spread}"


def _refuse_another(command: "Evaluate", name: str) -> None:
    """A result is replaced by the command that made it alone, and this is said before the work."""
    path = result_path(command.places.out, name)
    if not path.exists():
        return
    made = read_result(path, "evaluate")
    what = shlex.split(made["command"])[2 : 2 + len(command.what)]
    same = sorted(made.get("overrides", [])) == sorted(_overrides(command))
    if what != list(command.what) or not same:
        raise ValueError(
            f"{path} is the result of another command, `{made['command']}`; give this one a --name"
        )


def _overrides(command: "Evaluate") -> list[str]:
    """Flags that may make another result than the same command without any."""
    default = type(command)()
    sampling = dataclasses.replace(command.sampling, batch_size=default.sampling.batch_size)
    same = {"weights": default.weights, "places": default.places, "sampling": sampling}
    return _flags(dataclasses.replace(command, **same))


def _flags(command: "Evaluate") -> list[str]:
    """Every flag that is not the default."""
    settings = dataclasses.replace(command, what=())
    nested = changed_settings(settings, type(command)())
    return [re.sub(r"^--(?:[a-z]+\.)+", "--", flag) for flag in nested]
