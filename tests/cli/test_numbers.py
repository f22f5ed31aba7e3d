"""Numbers that are no numbers, or that nothing can hold, in every flag of every command."""

import pytest

from fv_jax.cli import commands
from fv_jax.cli.main import main
from fv_jax.cli.parsing import parse
from fv_jax.evaluation.protocols import protocol

ABSURD = ["inf", "-inf", "nan", "1e999", "99999999999999999999999999"]
NAMES = {
    "generate": ["--scale", "--batch-size", "--seed", "--first-frame-count", "--key-frames",
                 "--given-frames",
                 "--insert", "--levels", "--inherit", "--temperature", "--insert-temperature",
                 "--top-k", "--top-p", "--guidance", "--window"],
    "interpolate": ["--scale", "--seed", "--insert", "--levels", "--insert-temperature"],
    "tokenize": ["--fps", "--size", "--piece-seconds", "--shard-clips", "--threads"],
    "evaluate": ["--seed", "--batch-size", "--temperature"],
}  # fmt: skip
FIRST = {
    "generate": ["a small red circle"], "interpolate": ["nowhere.mp4"],
    "tokenize": ["nowhere", "--out", "new"], "evaluate": ["nowhere", "nowhere"],
}  # fmt: skip


@pytest.mark.parametrize("value", ABSURD)
@pytest.mark.parametrize(("name", "flag"), [(n, flag) for n in NAMES for flag in NAMES[n]])
def test_absurd_numbers_are_refused_before_anything_else(name, flag, value):
    kind = getattr(commands, name.capitalize())
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        parse(kind, [*FIRST[name], flag, value])
    assert flag in str(error.value)


@pytest.mark.parametrize("value", ABSURD)
def test_of_inspect_and_of_a_source(value, tmp_path, capsys):
    assert main(["data", "inspect", str(tmp_path), "--probe", value]) == 2
    assert main(["data", "inspect", f"folder:{tmp_path},picture_fps={value}"]) == 2
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
