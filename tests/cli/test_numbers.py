"""Numbers that are no numbers, or that nothing can hold, in every flag of every command."""

import dataclasses
import re

import pytest

from fv_jax.cli.bench import bench
from fv_jax.cli.commands import Bench
from fv_jax.cli.main import COMMANDS, main
from fv_jax.cli.parsing import parse
from fv_jax.cli.train import settings_of
from fv_jax.evaluation.protocols import protocol
from fv_jax.training import experiments

ABSURD = [
    "inf",
    "-inf",
    "nan",
    "1e999",
    "99999999999999999999999999",
    "-99999999999999999999999999",
]
NEEDED = {
    "interpolate": ["nowhere.mp4"], "data inspect": ["nowhere"],
    "tokenize": ["nowhere", "--out", "new"], "train": ["shapes"], "bench": ["data"],
    "export": ["shapes", "--out", "new"], "push": ["nowhere", "hf:me/mine"],
    "convert-weights": ["a.pt", "b.safetensors"],
}  # fmt: skip


def numbers(kind):
    """Names of a dataclass's fields that hold numbers, with those of the parts they are in, and how
    many of them each holds.
    """
    for field in dataclasses.fields(kind):
        value = getattr(kind, field.name)
        if dataclasses.is_dataclass(value):
            yield from ((f"{field.name}.{name}", count) for name, count in numbers(value))
        elif re.search(r"\b(int|float)\b", str(field.type)):
            yield field.name, max(len(value), 1) if isinstance(value, tuple) else 1


def check(read, flags, values=ABSURD):
    """Every flag refuses every absurd number in one line, and says which flag it is."""
    assert flags
    for flag, count in flags:
        for value in values:
            with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
                read([flag, *[value] * count])
            several = re.search(
                r"sizes|timed|threads", str(error.value)
            )  # of which no one is to blame
            assert flag in str(error.value) or several, (flag, value, error.value)


def flag(name, outer=""):
    """A field's flag: `outer` are the parts that give theirs no prefix, as a pattern."""
    return "--" + re.sub(f"^({outer})\\.", "", name).replace("_", "-")


@pytest.mark.parametrize("name", COMMANDS)
def test_of_a_command(name):
    kind, needed = COMMANDS[name][0], NEEDED.get(name, [])
    outer = r"sampling\.options|options|settings|changes|sampling|places|weights"
    found = [(flag(name, outer), count) for name, count in numbers(parse(kind, needed))]
    assert bool(found) == (
        name in ("generate", "interpolate", "data inspect", "tokenize", "evaluate", "studio")
    )
    if found:
        check(lambda words: parse(kind, [*needed, *words]), found)


@pytest.mark.parametrize("name", experiments.names("benches"))
def test_of_a_bench(name):
    settings = experiments.load(name, "benches").Settings
    found = [(flag(name), count) for name, count in numbers(settings())]
    check(lambda words: parse(settings, words), found)


def test_no_bench_counts_below_0():
    with pytest.raises(ValueError, match=r"^--held-out must be >= 0, got -1$"):
        bench(Bench("shapes-adherence", ("--held-out", "-1")))


@pytest.mark.slow
@pytest.mark.parametrize("name", experiments.names())
def test_of_a_training(name):
    module = experiments.load_training(name)
    found = [(flag(name), count) for name, count in numbers(module.get_config())]
    check(lambda words: settings_of(module, words), [("--devices", 1), *found], ["nan", "9" * 26])


def test_of_some_of_a_training():
    module = experiments.load_training("shapes")
    some = ["--devices", "--run.steps", "--run.mesh.data", "--optimizer.learning-rate", "--fps"]
    check(lambda words: settings_of(module, words), [(name, 1) for name in some])


@pytest.mark.parametrize("value", ABSURD)
def test_of_sources(value, tmp_path, capsys):
    assert main(["data", "inspect", f"folder:{tmp_path},picture_fps={value}"]) == 2
    assert main(["data", "inspect", f"shapes,count={value}"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("fv: ") for line in lines)


@pytest.mark.parametrize(
    "field",
    ["real_count", "frames", "size", "windows", "crops", "best_of", "repeats", "fake_count"],
)
def test_of_a_protocol(field):
    for value in (-1, 10**26):
        with pytest.raises(ValueError, match=field):
            protocol("plain", "repo", **{field: value})
