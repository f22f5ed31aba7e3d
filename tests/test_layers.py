"""The house: which room stands on which floor, and that imports point down."""

import ast
import graphlib
import re
from pathlib import Path

from places import ROOT

PACKAGE = ROOT / "fv_jax"
FLOORS = {
    "files": 0, "journal": 0, "provenance": 0, "array_types": 0, "batching": 0,
    "config": 1,
    "ops": 2, "weights": 2,
    "models": 3, "tokenizers": 3, "sequence": 3, "media": 3, "metrics": 3,
    "generation": 4, "shapes": 4, "interop": 4,
    "data": 5,
    "training": 6, "evaluation": 6,
    "reporting": 7, "planning": 7, "studio": 7,
    "cli": 8,
    "__init__": 9, "__main__": 9,
}  # fmt: skip
FILES = {p.relative_to(ROOT).with_suffix("").parts: p for p in PACKAGE.rglob("*.py")}
MODULES = {".".join(parts).removesuffix(".__init__"): path for parts, path in FILES.items()}


def imports(path: Path) -> set[str]:
    """Modules of the package that a file names, wherever in it, `TYPE_CHECKING` or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            each = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in each}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & MODULES.keys()


def texts(path: Path) -> set[str]:
    """Modules that registries import by a text such as "fv_jax.data.sources.bair:BAIR"."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    words = [node.value for node in nodes if isinstance(node, ast.Constant)]
    named = [re.fullmatch(r"(fv_jax[\w.]*):\w+", word) for word in words if isinstance(word, str)]
    return {match[1] for match in named if match} & MODULES.keys()


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def test_every_file_has_a_floor_and_there_are_few_rooms():
    rooms = {room(module) for module in MODULES}
    assert rooms <= FLOORS.keys(), f"give {sorted(rooms - FLOORS.keys())} a floor"
    assert len(rooms) <= 25


def test_imports_point_down():
    upwards = [
        f"{module} -> {other}"
        for module, path in MODULES.items()
        for other in imports(path) | texts(path)
        if room(module) != room(other) and FLOORS[room(module)] <= FLOORS[room(other)]
    ]
    assert not upwards, upwards


def test_there_are_no_circles():
    # A package's face offers what its files define, so it is no part of a circle.
    faces = {module for module, path in MODULES.items() if path.name == "__init__.py"}
    graph = {m: imports(path) - faces for m, path in MODULES.items() if m not in faces}
    graphlib.TopologicalSorter(graph).prepare()
