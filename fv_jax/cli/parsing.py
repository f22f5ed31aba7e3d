"""Words of the command line into dataclasses: tyro, whose boxed errors become one line."""

import contextlib
import dataclasses
import io
import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from fv_jax.config.model import PerLevel, Share, require_countable
from fv_jax.config.registry import choices
from fv_jax.files.buckets import is_bucket

_BOX = re.compile(r"[\u2500-\u257f]+|-{4,}")
# What is wrong with a value: of which flag or dataclass, without a flag's help text.
_VALUE = re.compile(
    r"^Error parsing (\S+): (.*?)(?: Argument helptext: .*)?(?: For full helptext.*)?$"
)
# A flag or a name in a list; a help command; a value that is none of some.
_NAMED = re.compile(r"^[\u2500-\u257f ] {5}([^\s\u2500-\u257f].*?)[\u2500-\u257f ]*$")
_HELP = re.compile(r"For full helptext, run:? (.+?--help)")
_CHOICE = re.compile(r"invalid choice '(.*?)' for argument '(.*?)'\. Expected one of \((.*?)\)")
# What Python says of words that are no numbers.
_NO_NUMBER = {
    r"invalid literal for int\(\) with base 10: (.*)": "whole number",
    r"could not convert string to float: (.*)": "number",
}
_READING = tyro.constructors.ConstructorRegistry()


class Folder(type(Path())):
    """A path that ends in "/" on the command line, so it is no file."""


def is_folder(path: Path) -> bool:
    """Whether a path is a folder, or is written as one."""
    return isinstance(path, Folder) or path.is_dir()


@_READING.primitive_rule
def _path(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
    if info.type is not Path:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: _path_of(words[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


def _path_of(word: str) -> Path:
    if is_bucket(word):
        raise ValueError(f"must be a path of this machine, got {word!r} (docs/scale.md)")
    return (Folder if word.endswith("/") else Path)(word)


def _numbers(word: str) -> int | tuple[int, ...]:
    if not re.fullmatch(r"-?\d+(,-?\d+)*", word):
        raise ValueError(f"must be whole numbers with commas between, got {word!r}")
    found = tuple(map(int, word.split(",")))
    return found if len(found) > 1 else found[0]


def _share(word: str) -> float | str:
    try:
        return word if word == "auto" else float(word)
    except ValueError as error:
        raise ValueError(f'must be a number or "auto", got {word!r}') from error


@_READING.primitive_rule
def _one_word(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
    """Values of a few kinds that are one word."""
    kinds = {PerLevel: ("INT[,INT..]", _numbers), Share: ("FLOAT|auto", _share)}
    if info.type not in kinds:
        return None
    metavar, read = kinds[info.type]
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: read(words[0]),
        is_instance=lambda value: isinstance(value, int | float | tuple | str),
        str_from_instance=lambda value: [
            ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        ],
    )


def parse(kind: Any, args: Sequence[str], **more: Any) -> Any:
    """`tyro.cli`, for which what is wrong is a `ValueError` of one line.

    Args:
        kind: what to make; a mapping from subcommands to dataclasses makes one of these.
        args: the words.
        more: arguments of tyro's.

    Raises:
        ValueError: the words are not as `kind` wants them.
        SystemExit: they ask for help, which has been printed.
    """
    several = isinstance(kind, dict)
    run = tyro.extras.subcommand_cli_from_dict if several else tyro.cli
    captured = io.StringIO()
    more |= {"config": (tyro.conf.AvoidSubcommands,), "registry": _READING}
    try:
        with contextlib.redirect_stderr(captured):
            made = run(kind, args=args, **more)
        if dataclasses.is_dataclass(made):
            _check_numbers(kind, made, [])
        return made
    except ValueError as error:  # of a dataclass whose fields have no prefix
        raise ValueError(_by_flag(kind, "", str(error))) from error
    except SystemExit as stop:
        if stop.code:
            raise ValueError(_in_one_line(captured.getvalue(), kind)) from stop
        raise


def _check_numbers(kind: Any, made: Any, path: list[str]) -> None:
    """Raises `ValueError` unless machines count with every number of a dataclass and of its parts,
    whatever they check themselves.
    """
    for field in dataclasses.fields(made):
        value, here = getattr(made, field.name), [*path, field.name]
        if dataclasses.is_dataclass(value):
            _check_numbers(kind, value, here)
        else:
            require_countable(_flag(kind, here) or field.name, value)


def _in_one_line(boxed: str, kind: Any) -> str:
    """What tyro says in a box is wrong with the words."""
    _, *lines = boxed.splitlines()  # the first is the box's title
    words = " ".join(_BOX.sub(" ", " ".join(lines)).split())
    # Flags stand further in than sentences, and their help further than they do.
    named = [found[1] for line in lines if (found := _NAMED.match(line))]
    more = f"`{found[1]}` says more" if (found := _HELP.search(words)) else ""
    if found := re.match(r"Missing from (.+?): ", words):
        named = [name for name in named if not name.endswith(" --help")]
        return f"{found[1]} needs {' and '.join(named)}; {more}"
    if found := re.match(r"Unrecognized options: ([^,\s]+)", words):
        near = [name.split()[0] for name in named if name.startswith("-")]
        meant = f"; did you mean {' or '.join(near)}?" if near else ";"
        what = "option" if found[1].startswith("-") else "place for the word"
        return f"no {what} {found[1]}{meant} {more}"
    if found := _CHOICE.match(words):
        known = re.findall(r"'(.*?)'", found[3])
        return f"{found[2]}: no {found[1]!r}; {choices(found[1], known)}"
    if found := _VALUE.match(words):
        return _by_flag(kind, *found.groups())
    return words


def _by_flag(kind: Any, where: str, what: str) -> str:
    """What is wrong with a value, said of its flag instead of a dataclass's field.

    Args:
        kind: the outermost dataclass.
        where: a flag, names of fields with dots between, or the outermost dataclass's name.
        what: the error's text, such as "RunConfig.steps must be >= 1, got 0".
    """
    for pattern, kind_of_number in _NO_NUMBER.items():
        what = re.sub(pattern, rf"must be a {kind_of_number}, got \1", what)
    if where.startswith("-"):
        return f"{where}: {what}"
    found = re.match(r"(?:[A-Z]\w*\.)?([a-z]\w*)(?=[ =:])", what)
    path = where.split(".") if "." in where or where in _fields(kind) else []
    if found is None or (flag := _flag(kind, [*path, found[1]])) is None:
        return what
    return flag + what[found.end() :]


def _flag(kind: Any, path: list[str]) -> str | None:
    """The flag of a field of a field ..; None if there is no such field."""
    parts = []
    for name in path[:-1]:
        hint = _fields(kind)[name]
        parts += [] if _without_prefix(hint) else [name]
        kind = _dataclass(hint)
    if path[-1] not in _fields(kind):
        inner = [_dataclass(hint) for hint in _fields(kind).values() if _without_prefix(hint)]
        if not any(path[-1] in _fields(part) for part in inner):
            return None
    return "--" + ".".join([*parts, path[-1]]).replace("_", "-")


def _fields(kind: Any) -> dict[str, Any]:
    return {field.name: field.type for field in dataclasses.fields(kind)}


def _dataclass(hint: Any) -> Any:
    return next(t for t in (*typing.get_args(hint), hint) if dataclasses.is_dataclass(t))


def _without_prefix(hint: Any) -> bool:
    annotated = typing.get_origin(hint) is Annotated
    return annotated and dataclasses.is_dataclass(typing.get_args(hint)[0])
