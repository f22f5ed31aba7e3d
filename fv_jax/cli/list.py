"""`fv list`: what there is, in a line or two each."""

import ast
import inspect
import json
import re
import shutil
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fv_jax.data.sources.base import SOURCES, kind_of_source
from fv_jax.training import experiments
from fv_jax.weights.shipped import SHIPPED

if TYPE_CHECKING:
    from fv_jax.cli.commands import List

_HOW = {
    "experiments": "fv train NAME",
    "benches": "fv bench NAME",
    "models": "fv generate PROMPT --model NAME",
    "sources": "fv data inspect SOURCE, fv tokenize SOURCE, fv train NAME --data SOURCE",
}
_COST = re.compile(r"^ +cost +(.*(?:\n {8,}.*)*)", re.MULTILINE)


def list_things(command: "List") -> int:
    """Print what there is. Returns the exit code."""
    width = min(shutil.get_terminal_size().columns, 110)
    find = {"experiments": _records, "benches": _records, "models": _models, "sources": _sources}
    for kind in command.what or _HOW:
        print(f"{kind}: {_HOW[kind]}")
        things = list(find[kind]("benches" if kind == "benches" else ""))
        indent = max([len(name) for name, _ in things], default=0) + 4
        for name, lines in things:
            head = f"  {name}".ljust(indent)
            for line in lines:
                line, below = " ".join(line.split()), " " * indent
                print(textwrap.fill(line, width, initial_indent=head, subsequent_indent=below))
                head = below
        print()
    return 0


def _records(kind: str) -> Iterator[tuple[str, list[str]]]:
    """Trainings or benches: the first paragraph of their docstring, and its line of the cost."""
    for name in experiments.names(kind):
        path = experiments.find(name, kind)
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        cost = _COST.search(text)
        yield name, [text.partition("\n\n")[0], *([f"cost: {cost[1]}"] if cost else [])]


def _models(_: str) -> Iterator[tuple[str, list[str]]]:
    """The shipped models, and those that were trained here."""
    here = sorted(experiments.OUT.glob("*/model/config.json"))
    for path in [*sorted(SHIPPED.glob("*/config.json")), *here]:
        folder = path.parent
        name = folder.name if folder.parent == SHIPPED else str(folder)
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
            h, w = config["sequence"]["frame_grid"]
            about = (
                f"{record['parameters'] / 1e6:.1f} M parameters, {h}x{w} ids a frame, "
                f"{config['key_frames']} key frames at {config['key_frame_fps']:g} a second; "
                f"{record['steps']:,} steps of `{record['config']['name']}`"
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            about = f"cannot be read ({type(error).__name__}: {error})"
        size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
        yield name, [about, f"cost: {size / 1e6:.1f} MB on disk"]


def _sources(_: str) -> Iterator[tuple[str, list[str]]]:
    """Kinds of sources, with the options of their texts."""
    for name in SOURCES:
        try:
            kind = kind_of_source(name)
        except ValueError as error:
            yield name, [str(error)]
            continue
        fields = inspect.signature(kind).parameters
        options = [
            f"{option}={field.default}"
            for option, field in fields.items()
            if option not in ("place", "name")
        ]
        text = ",".join([f"{name}:PLACE" if "place" in fields else name, *options])
        yield name, [(inspect.getdoc(kind) or "").partition("\n\n")[0], text]
