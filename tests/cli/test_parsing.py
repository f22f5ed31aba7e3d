"""Words into dataclasses: what is wrong is one line that names the flag."""

import dataclasses
import re
from pathlib import Path
from typing import Annotated

import pytest
import tyro

from fv_jax.cli.parsing import Folder, is_folder, parse
from fv_jax.config.model import at_least


@dataclasses.dataclass(frozen=True)
class Inner:
    """Inside."""

    steps: int = 1
    """Steps."""
    log_every: float = 1.0
    """Log."""

    def __post_init__(self) -> None:
        at_least(self, steps=1, log_every=0)


@dataclasses.dataclass(frozen=True)
class Middle:
    """Between."""

    inner: Inner = Inner()
    size: int = 1
    """Size."""

    def __post_init__(self) -> None:
        at_least(self, size=1)


@dataclasses.dataclass(frozen=True)
class Outer:
    """Outside."""

    out: Path = Path("here")
    """A path."""
    places: tuple[Path, ...] = ()
    """Paths."""
    count: int | None = None
    """A number."""
    run: Middle = Middle()
    flat: tyro.conf.OmitArgPrefixes[Inner] = Inner()
    nameless: Annotated[Middle, tyro.conf.arg(name="")] = Middle()

    def __post_init__(self) -> None:
        if self.count == 13:
            raise ValueError("count must not be 13")
        if self.count == 14:
            raise ValueError("what it must be is not known")


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ("--run.inner.log-every nan", "--run.inner.log-every must be finite, got nan"),
        ("--run.size 0", "--run.size must be >= 1, got 0"),
        ("--steps 0", "--steps must be >= 1, got 0"),
        ("--size 0", "--size must be >= 1, got 0"),
        ("--inner.steps 0", "--inner.steps must be >= 1, got 0"),
        ("--count 13", "--count must not be 13"),
        ("--count 14", "what it must be is not known"),
        ("--run.size three", "--run.size: must be a whole number, got 'three'"),
    ],
)
def test_a_wrong_value_is_said_of_its_flag(args, line):
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        parse(Outer, args.split())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--sizes", "3"], ["--sizes", "--size"]),
        (["--run.size", "three"], ["--run.size: ", "'three'"]),
        (["--count"], ["--count"]),
    ],
)
def test_wrong_words_are_one_line_without_boxes(args, words):
    with pytest.raises(ValueError, match=r"^[^\n\u2500-\u257f]+$") as error:
        parse(Outer, args)
    assert "----" not in str(error.value)
    assert all(word in str(error.value) for word in words)


def test_a_path_that_ends_in_a_slash_is_a_folder(tmp_path):
    made = parse(Outer, ["--out", "new.mp4/", "--places", "a/", "b"])
    assert made.out == Path("new.mp4")
    assert is_folder(made.out)
    assert [isinstance(path, Folder) for path in made.places] == [True, False]
    assert is_folder(tmp_path)
    assert not is_folder(Path("new.mp4"))


def test_help_is_no_error(capsys):
    with pytest.raises(SystemExit) as stop:
        parse({"outer": Outer, "inner": Inner}, ["--help"], prog="fv")
    assert not stop.value.code
    assert "outer" in capsys.readouterr().out
