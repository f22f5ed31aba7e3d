"""What `fv evaluate` does around the scoring: what is compared, results, pictures, messages."""

import dataclasses
import hashlib
import json
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fv_jax.config.model import to_json
from fv_jax.config.training import NetworkExperiment
from fv_jax.evaluation.clip_sets import open_set, paired, scored
from fv_jax.evaluation.evaluate import Scorers, Sets, evaluate
from fv_jax.evaluation.protocols import (
    FRAME_METRICS,
    LABELS,
    METRICS,
    SET_METRICS,
    Protocol,
    preset_of,
    protocol,
)
from fv_jax.evaluation.scores import Missing, Weights, frame_score, video_network
from fv_jax.files import only_process_in, write_text
from fv_jax.generation import pretrained
from fv_jax.media.montage import Pair, figure, save_png
from fv_jax.media.writers import write_playable
from fv_jax.metrics.i3d_network import LEAST_FRAMES
from fv_jax.provenance import provenance
from fv_jax.reporting.results import changed_settings
from fv_jax.reporting.tables import FORMAT, read_result
from fv_jax.training import experiments

if TYPE_CHECKING:
    from fv_jax.cli.commands import Evaluate

_SHOWN, _IN_FIGURE, _LISTED = 8, 4, 1000  # clips
_CHANGES = {
    "given_frames": "given_frames", "frames": "frames", "size": "size", "count": "real_count",
    "fake_count": "fake_count", "best_of": "best_of", "repeats": "repeats",
    "metrics": "metrics", "ssim_colour": "ssim_colour", "lpips_net": "lpips_net",
    "i3d_epsilon": "i3d_epsilon",
}  # fmt: skip
# Where things lie, and how much is done at a time: whatever they say, the result is the same.
_PLACES = ("i3d_weights", "lpips_trunk", "lpips_heads", "name", "out", "cache", "batch_size")
_NOT_FOLDERS = (
    "repeats", "fake_count", "stage", "preset", "model", "source", "seed", "batch_size", "options",
)  # fmt: skip


def run(command: "Evaluate") -> int:
    """Score, print and write. Returns the exit code.

    Raises:
        ValueError, FileNotFoundError: what is compared, or a setting, is unfit.
    """
    with only_process_in(command.cache):
        return (_experiment if len(command.what) == 1 else _folders)(command)


def _folders(command: "Evaluate") -> int:
    if len(command.what) != 2:
        raise ValueError(
            f"give REAL FAKE (two folders or .npz) or EXPERIMENT, got {len(command.what)} names"
        )
    given = {name: getattr(command, name) for name in _NOT_FOLDERS}
    if changed := _changed(dataclasses.replace(type(command)(), **given)):
        flags = ", ".join(flag.split()[0] for flag in changed)
        raise ValueError(f"{flags}: only for an experiment, whose clips are made here")
    name = command.name or _name(Path(command.what[1]))
    _refuse_another(command, _result(command, name))
    rules = dataclasses.replace(_protocol(command, "plain"), repeats=1)  # what is there is one run
    real, fake = (open_set(Path(place)) for place in command.what)
    if rules.real_count:
        each = max(1, len(fake) // len(real))
        real, fake = real[: rules.real_count], fake[: rules.real_count * each]
    pairs = any(name in FRAME_METRICS for name in rules.metrics)
    groups, by = paired(real, fake) if pairs else ([fake], None)
    if pairs and len(groups[0]) < rules.best_of:
        raise ValueError(
            f"best_of={rules.best_of} needs as many fakes of each clip, got {len(groups[0])}; "
            "--best-of 1 compares with the first"
        )
    sets = Sets(real, [groups], paired=pairs)
    length = len(scored(real[0], rules))
    scorers = _scorers(command, rules, length, real[0].name)
    result = evaluate(sets, rules, scorers, command.cache / "numbers")
    about = {"real": command.what[0], "fake": command.what[1], "paired_by": by}
    texts = [Path(clip.name).stem for clip in real]
    return _finish(command, name, rules, scorers, result, about, sets, texts, fps=8.0)


def _experiment(command: "Evaluate") -> int:
    from fv_jax.evaluation.samples import Samples, choose, unseen_entries
    from fv_jax.generation import plan
    from fv_jax.generation.generator import Generator

    what = command.what[0]
    if Path(what).is_dir() or Path(what).suffix == ".npz":
        raise ValueError(f"{what!r} is one set of clips; give two, REAL FAKE, or an experiment")
    config = _config(command, what)
    rules = _protocol(command, preset_of(config.name), given=1)
    name = command.name or _run_name(config.name, rules, command)
    _refuse_another(command, _result(command, name))
    folder = _model(command, config)
    generator = Generator.load(str(folder))
    options, model = command.options, generator.model.config
    inserted = plan.inserted(generator.model, options)
    per_gap = (inserted + 1) ** options.levels
    length = (plan.key_frames(generator.model, options) - 1) * per_gap + 1
    rules = _fitted(rules, length, generator.model.frame_size[0])
    scorers = _scorers(command, rules, rules.frames, f"protocol {rules.name}")
    fps = model.key_frame_fps * per_gap
    source, entries = unseen_entries(config, command.source)
    real, left_out = choose(entries, rules, fps)
    weights = hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
    samples = Samples(
        generator, real, rules, options=options, seed=command.seed,
        home=command.cache / "clips" / config.name, weights=weights,
    )  # fmt: skip
    samples.generate(command.batch_size)
    sets = Sets([unseen.clip for unseen in real], samples.runs(), generated=True)
    result = evaluate(sets, rules, scorers, command.cache / "numbers")
    about = {
        "experiment": config.name, "real": source, "left_out": left_out,
        "clips": [unseen.id for unseen in real[:_LISTED]],
        "model": {"config_sha256": weights, "training": _training(folder)},
        "seed": command.seed,
        "seeds": [[made.seed for made in run[:_LISTED]] for run in samples.made],
        "seeds_are": "the first 4 bytes, little-endian, of sha256('SEED RUN TRIAL CLIP')",
        "options": to_json(options), "given_as": "real frames in the fake clips, too",
    }  # fmt: skip
    texts = [unseen.text for unseen in real]
    return _finish(command, name, rules, scorers, result, about, sets, texts, fps=fps)


def _protocol(command: "Evaluate", default: str, given: int = 0) -> Protocol:
    changes = {
        field: getattr(command, flag)
        for flag, field in _CHANGES.items()
        if getattr(command, flag) is not None
    }
    for flag in ("given_in_fvd", "given_in_frames"):
        if value := getattr(command, flag):
            changes[flag] = value == "yes"
    name = command.protocol or default
    if name == "plain":
        changes.setdefault("given_frames", given)
    return protocol(name, command.profile, **changes)


def _scorers(command: "Evaluate", rules: Protocol, length: int, whose: str) -> Scorers:
    """What can be computed of clips as long as those of `whose`; says what cannot, and why."""
    weights = Weights(
        command.i3d_weights, command.lpips_trunk, command.lpips_heads,
        command.allow_unverified_weights,
    ).found  # fmt: skip
    frames = {n: frame_score(n, rules, weights) for n in rules.metrics if n in FRAME_METRICS}
    videos = {n: video_network(n, rules, weights) for n in rules.metrics if n in SET_METRICS}
    counted = length - (0 if rules.given_in_fvd else rules.given_frames)
    if "fvd" in videos and counted < LEAST_FRAMES:
        short = f"{counted} frames, FVD needs {LEAST_FRAMES}"
        if "fvd" in (command.metrics or ()) or not isinstance(videos["fvd"], Missing):
            raise ValueError(f"{whose}: got {short}; leave it out with --metrics psnr ssim lpips")
        videos["fvd"] = Missing(short)
    for name, scorer in {**frames, **videos}.items():
        if isinstance(scorer, Missing):
            print(f"{LABELS[name]} will be null: {scorer.reason}")
    return Scorers(frames, videos)


def _records(scorers: Scorers) -> dict[str, Any]:
    """What is known of the weights of each metric that has some."""
    every = {**scorers.frames, **scorers.videos}
    records = {name: getattr(scorer, "record", None) for name, scorer in every.items()}
    return {name: record for name, record in records.items() if record}


def _config(command: "Evaluate", name: str) -> NetworkExperiment:
    """Settings of the experiment's last stage, or of what the flags say."""
    module = experiments.load(name)
    if not hasattr(module, "get_config"):
        raise ValueError(f"{name} has no get_config(), so it is no training; see experiments/")
    kinds, chosen = experiments.variants(module.get_config), {}
    if "stage" in kinds and "interpolation" in kinds["stage"][0]:
        chosen["stage"] = "interpolation"
    for flag in ("stage", "preset"):
        value = getattr(command, flag)
        if value and value not in kinds.get(flag, ((), ""))[0]:
            can = ", ".join(kinds[flag][0]) if flag in kinds else "none"
            raise ValueError(f"{name} has no --{flag} {value}; it has: {can}")
        if value:
            chosen[flag] = value
    config = module.get_config(**chosen)
    if not isinstance(config, NetworkExperiment):
        raise ValueError(f"{config.name} trains no network, so it makes no videos")
    return config


def _model(command: "Evaluate", config: NetworkExperiment) -> Path:
    """The folder of the model: the one named, the trained one, or the shipped one."""
    if command.model:
        return pretrained.locate(command.model)
    trained = Path(config.run.folder or experiments.OUT / config.name) / "model"
    for place in (str(trained), config.name):
        try:
            return pretrained.locate(place)
        except FileNotFoundError:
            continue
    raise FileNotFoundError(
        f"no model {str(trained)!r} of {config.name}: train it first (experiments/ has the "
        "commands), or give --model"
    )


def _training(folder: Path) -> Any:
    """Steps and the like of the model's own record, if it has one."""
    path = folder / "training.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {k: v for k, v in record.items() if isinstance(v, int | float | str)}


def _fitted(rules: Protocol, length: int, size: int) -> Protocol:
    """The protocol with the model's length and size where it says none."""
    rules = dataclasses.replace(rules, frames=rules.frames or length, size=rules.size or size)
    if rules.frames > length:
        raise ValueError(
            f"protocol {rules.name}: want {rules.frames} frames, the model makes {length}; give "
            f"--frames {length}, or --key-frames and --levels for more"
        )
    return rules


def _finish(
    command: "Evaluate", name: str, rules: Protocol, scorers: Scorers, result: dict[str, Any],
    about: dict[str, Any], sets: Sets, texts: Sequence[str], fps: float,
) -> int:  # fmt: skip
    """Write results, the picture and the clips to play; print the table."""
    for record in _records(scorers).values():
        result["warnings"] += record.get("cautions", [])
    for warning in result["warnings"]:
        print(f"fv: warning: {warning}", file=sys.stderr)
    # Named by what was compared, so that clips stay with their numbers.
    digest = hashlib.sha256(json.dumps(result["hashes"]).encode()).hexdigest()[:8]
    folder = command.cache / "shown" / f"{name}-{digest}"
    shown = _show(command, name, folder, rules, sets, texts, fps) if sets.paired else []
    path = _result(command, name)
    values = {
        "format": FORMAT, "command": _command_line(command), "overrides": _overrides(command),
        "source": provenance(),
        "name": name, **about, "protocol": to_json(rules), **result,
        "weights": _records(scorers),
        "shown": shown,
    }  # fmt: skip
    write_text(path, json.dumps(values, indent=1) + "\n")
    for metric in METRICS:
        if metric in result["metrics"]:
            print(f"{LABELS[metric]:<12}{_value(result['metrics'][metric])}")
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


def _show(command, name, folder: Path, rules, sets: Sets, texts, fps) -> list[dict[str, str]]:
    """The first clips for people: a picture beside the results, and files to play."""
    pairs: list[Pair] = []
    for index in range(min(_SHOWN, len(sets.real))):
        real = scored(sets.real[index], rules)
        fake = scored(sets.runs[0][index][0], rules).copy()
        if sets.generated:
            fake[: rules.given_frames] = real[: rules.given_frames]
        pairs.append((texts[index], real, fake))
    picture = figure(pairs[:_IN_FIGURE], rules.given_frames)
    save_png(picture, _result(command, name).with_suffix(".png"))
    shown = []
    for index, (text, real, fake) in enumerate(pairs):
        paths = {
            kind: str(write_playable(frames, fps, folder / f"{index:02d}-{kind}"))
            for kind, frames in (("real", real), ("fake", fake))
        }
        shown.append({"text": text, **paths})
    return shown


def _run_name(name: str, rules: Protocol, command: "Evaluate") -> str:
    """Of an experiment's result: other protocols have results of their own."""
    parts = [name]
    if command.protocol and command.protocol != preset_of(name):
        parts.append(rules.name)
    if rules.profile != "repo":
        parts.append(rules.profile)
    return "-".join(parts)


def _name(fake: Path) -> str:
    name = fake.resolve().stem if fake.suffix == ".npz" else fake.resolve().name
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name) or "clips"


def _result(command: "Evaluate", name: str) -> Path:
    return command.out / "results" / f"evaluate-{name}.json"


def _refuse_another(command: "Evaluate", path: Path) -> None:
    """A result is replaced by the command that made it alone, and this is said before the work."""
    if not path.exists():
        return
    made = read_result(path, "evaluate")
    what = shlex.split(made["command"])[2 : 2 + len(command.what)]
    if (what, made.get("overrides", [])) != (list(command.what), _overrides(command)):
        raise ValueError(
            f"{path} is the result of another command, `{made['command']}`; give this one a --name"
        )


def _overrides(command: "Evaluate") -> list[str]:
    """Flags that may make another result than the same command without any."""
    default = type(command)()
    same = {name: getattr(default, name) for name in _PLACES}
    return _changed(dataclasses.replace(command, **same))


def _command_line(command: "Evaluate") -> str:
    """`fv evaluate` with every setting that is not the default."""
    return " ".join(["fv evaluate", *map(shlex.quote, command.what), *_changed(command)])


def _changed(command: "Evaluate") -> list[str]:
    """Every flag that is not the default."""
    default = type(command)()
    flags = dataclasses.replace(command, what=(), options=default.options)
    return [*changed_settings(flags, default), *changed_settings(command.options, default.options)]
