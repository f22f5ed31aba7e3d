"""The paper's tables with our rows beside them, from result files alone: no number is made up.

A row of ours is there where `fv evaluate` has measured it. Where it has not, the row says what it
would need: the commands, and the hours that the training's FLOPs take.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from fv_jax.evaluation.metrics import METRICS
from fv_jax.evaluation.protocols import preset_of
from fv_jax.evaluation.results import FORMAT
from fv_jax.reporting.results import markdown as markdown_table

_ORIGIN = ("command", "source.machine", "source.date", "source.commit")
_NEEDED = {
    "evaluate": (
        *_ORIGIN, "name", "metrics.*.value", "protocol.name", "protocol.profile",
        "protocol.given_frames", "protocol.best_of", "counts.real_pieces", "counts.fake",
        "counts.runs", "counts.frames", "counts.width",
    ),
    "efficiency": (
        *_ORIGIN, "cells.*.batch", "cells.*.frames", "cells.*.pixels", "cells.*.left_out",
        "cells.*.ways.*.seconds_per_frame",
    ),
}  # fmt: skip
# Flags that a row of the paper's table may have: the row says itself what they changed.
_USUAL = (
    "--size", "--given-frames", "--profile", "--metrics", "--repeats", "--stage", "--faithful",
    "--seed", "--protocol",
)  # fmt: skip

_FAITHFUL = "_faithful"  # how names of trainings end that leave our changes out


@dataclasses.dataclass(frozen=True)
class Table:
    """A table as text, for Markdown and HTML alike.

    Attributes:
        ours: numbers of the rows that are ours.
        notes: lines below it.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    ours: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def read_results(folders: Sequence[Path], kind: str) -> list[dict[str, Any]]:
    """Result files `KIND-*.json` of all folders, each once; `path` is where it lies.

    Raises:
        ValueError: a file is no result; names it.
    """
    paths = [path for folder in folders for path in sorted(folder.glob(f"{kind}-*.json"))]
    kept = {path.resolve(): path for path in paths if not path.name.endswith(".part.json")}
    return [read_result(path, kind) for path in kept.values()]


def read_result(path: Path, kind: str) -> dict[str, Any]:
    """One result file; `path` is where it lies.

    Raises:
        ValueError: it is no JSON object, or lacks what the report says of it.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values["path"] = path
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no result ({error}); delete it, or make it again") from error
    if kind == "evaluate" and values.get("format") != FORMAT:
        raise ValueError(
            f"{path}: got format {values.get('format')!r}, want {FORMAT!r}; delete it, or "
            "evaluate again"
        )
    lacks = [needed for needed in _NEEDED[kind] if _lacks(values, needed)]
    if lacks:
        raise ValueError(
            f"{path} is no whole result: it lacks {', '.join(lacks)}; delete it, or make it again"
        )
    return values


def _lacks(values: Any, path: str) -> bool:
    """Whether a path of keys, `*` for every one there is, leads nowhere."""
    key, _, rest = path.partition(".")
    if key == "*":
        each = values.values() if isinstance(values, dict) else values
        unfit = not isinstance(values, dict | list) or values == []
        return unfit or any(_lacks(value, rest) for value in each)
    if not isinstance(values, dict) or key not in values:
        return True
    return bool(rest) and _lacks(values[key], rest)


def paper_tables(
    paper: dict[str, Any], results: Sequence[dict[str, Any]], needs: Callable[[str], str]
) -> list[Table]:
    """Tables 1 to 3: every row of the paper's, then ours.

    Args:
        paper: experiments/paper_tables.json.
        results: of `fv evaluate`; those by the field's protocol, and by the paper's own.
        needs: what a training that was not run would need, by its experiment's name.
    """
    return [_paper_table(table, results, needs) for table in paper["tables"]]


def _paper_table(table, results, needs) -> Table:
    metrics, name = table["metrics"], table["experiment"]
    sizes = any("resolution" in row for row in table["rows"])
    header = [
        "Method",
        *(["px"] if sizes else []),
        *(METRICS[metric].heading() for metric in metrics),
    ]
    rows = [
        [row["method"], *([str(row["resolution"])] if sizes else []),
         *("-" if row[metric] is None else f"{row[metric]:g}" for metric in metrics)]
        for row in table["rows"]
    ]  # fmt: skip
    first, notes, missing = len(rows), [], False
    for rules in _protocols(name):
        here = [r for r in results if is_of(r, name) and r["protocol"]["name"] == rules]
        for result in here:
            size = [str(result["counts"]["width"])] if sizes else []
            rows.append([f"this code ({_conditions(result)})", *size,
                         *(number(result, metric) for metric in metrics)])  # fmt: skip
            notes += [_origin(result), *_reasons(result, metrics)]
        if not here:
            rows.append([f"this code (protocol {rules})", *(["-"] if sizes else []),
                         *["not run"] * len(metrics)])  # fmt: skip
            missing = True
    if missing:
        notes.append(f"not run: needs {needs(name)}")
    return Table(table["title"], header, rows, tuple(range(first, len(rows))), tuple(notes))


def _protocols(name: str) -> tuple[str, ...]:
    """The field's protocol of a data set, and the paper's own two."""
    return (preset_of(name), "flashvideo", "flashvideo_five")


def is_of(result: dict[str, Any], name: str) -> bool:
    """Whether a result is of the paper's own training, not of its small preset or another model."""
    trained = str(result.get("experiment")).removesuffix(_FAITHFUL)
    ours = trained in (name, f"{name}_interpolation", f"{name}_key_frames")
    return ours and result["protocol"]["name"] in _protocols(name) and not _unusual(result)


def _unusual(result: dict[str, Any]) -> list[str]:
    """Flags that make it another measurement than the paper's, such as another model."""
    return [flag for flag in result.get("overrides", []) if flag.split()[0] not in _USUAL]


def own_table(paper: dict[str, Any], results: Sequence[dict[str, Any]]) -> Table | None:
    """Results that belong to no table of the paper; None if there are none.

    Those of its trainings with another model, source or number of clips are here, and say so.
    """
    names = [table["experiment"] for table in paper["tables"]]
    rest = [r for r in results if not any(is_of(r, name) for name in names)]
    if not rest:
        return None
    rows = [
        [r["name"], _conditions(r), *(number(r, metric) for metric in METRICS)] for r in rest
    ]  # fmt: skip
    notes = [line for r in rest for line in (_origin(r), *_reasons(r, METRICS))]
    return Table(
        "Our own evaluations", ["What", "how", *(METRICS[m].heading() for m in METRICS)], rows,
        tuple(range(len(rows))), tuple(notes),
    )  # fmt: skip


def number(result: dict[str, Any], metric: str) -> str:
    """A metric of a result; "null" where it could not be computed."""
    found = result["metrics"].get(metric)
    if found is None:
        return "not asked for"
    if found["value"] is None:
        return "null"
    digits, spread = METRICS[metric].digits, found.get("deviation")
    return f"{found['value']:{digits}}" + ("" if spread is None else f" ± {spread:{digits}}")


def figure_6(paper: dict[str, Any], results: Sequence[dict[str, Any]]) -> list[Table]:
    """Milliseconds per frame of every way, longest clips at the least batch, by preset.

    Medians, and in brackets means of the same trials, as the paper has them; earlier results have
    medians alone.
    """
    tables = []
    for result in results:
        cells = figure_6_cells(result)
        names = list(dict.fromkeys(name for cell in cells for name in cell["ways"]))
        labels = [f"{cell['pixels']} px" for cell in cells]
        rows = [[name, *(_milliseconds(cell, name) for cell in cells)] for name in names]
        frames, batch = cells[0]["frames"], cells[0]["batch"]
        both = any("mean_seconds_per_frame" in w for cell in cells for w in cell["ways"].values())
        middles = "median (mean)" if both else "median"
        ours = tuple(i for i, name in enumerate(names) if name.startswith(("RetNet", "FlashVideo")))
        tables.append(
            Table(
                f"ms per frame, {middles}, {frames} frames, batch {batch} ({result['path'].stem})",
                ["way", *labels],
                rows,
                ours,
                (_origin(result),),
            )
        )
    claims = [f"{claim['what']}: {claim['times']} times" for claim in paper["figure_6"]["claims"]]
    note = f"{'; '.join(claims)} (on a {paper['figure_6']['device']}). {paper['figure_6']['note']}"
    missing = "" if any("paper" in r["path"].stem for r in results) else (
        "At the paper's size: not run: needs a GPU, `fv bench efficiency --preset paper`."
    )  # fmt: skip
    notes = (f"The paper's claims: {note}", *([missing] if missing else []))
    return [*tables, Table("The paper's figure", [], [], (), notes)]


def figure_6_cells(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells of an efficiency bench with its longest clips at its least batch."""
    batch = min(cell["batch"] for cell in result["cells"])
    here = [cell for cell in result["cells"] if cell["batch"] == batch]
    frames = max(cell["frames"] for cell in here)
    return [cell for cell in here if cell["frames"] == frames]


def markdown(table: Table) -> str:
    """A table with its title and notes; rows that are ours are bold."""
    parts = []
    if table.rows:
        rows = [
            [f"**{cell}**" if i in table.ours else cell for cell in row]
            for i, row in enumerate(table.rows)
        ]
        escaped = [[cell.replace("|", "\\|") for cell in row] for row in (table.header, *rows)]
        parts = [f"**{table.title}**", markdown_table(escaped[0], escaped[1:]).rstrip()]
    return "\n\n".join([*parts, *table.notes]) + "\n"


def replace_section(text: str, name: str, section: str) -> str:
    """`text` with the part between the name's marker lines replaced, or added at the end."""
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    block = f"{begin}\n{section}{end}"
    if begin in text and end in text:
        before, rest = text.split(begin, 1)
        return before + block + rest.split(end, 1)[1]
    return f"{text.rstrip()}\n\n## {name}\n\n{block}\n".lstrip()


def _milliseconds(cell: dict[str, Any], name: str) -> str:
    if name not in cell["ways"]:
        return "left out" if name in cell["left_out"] else ""
    way = cell["ways"][name]
    mean = way.get("mean_seconds_per_frame")
    brackets = "" if mean is None else f" ({1e3 * mean:.3g})"
    return f"{1e3 * way['seconds_per_frame']:.3g}{brackets}"


def _conditions(result: dict[str, Any]) -> str:
    rules, counts = result["protocol"], result["counts"]
    runs = f"{counts['runs']} x " if counts["runs"] > 1 else ""
    text = "fresh: " if result.get("fresh") else ""
    used = result.get("given_used", rules["given_frames"])
    given = f"{rules['given_frames']} given"
    given += "" if used == rules["given_frames"] else f", {used} of them used"
    text += f"protocol {rules['name']}: {counts['frames']} frames, {given}, "
    text += f"{runs}{counts['fake']} clips"
    text += f" against {counts['real_pieces']}, profile {rules['profile']}"
    text += f", best of {rules['best_of']}" if rules["best_of"] > 1 else ""
    text += ", faithful" if str(result.get("experiment")).endswith(_FAITHFUL) else ""
    return ", ".join([text, *(f"`{flag}`" for flag in _unusual(result))])


def _origin(result: dict[str, Any]) -> str:
    made = result["source"]
    return (
        f"`{result['command']}` on {made['machine']}; {made['date']}, "
        f"commit {made['commit'] or 'unknown'}."
    )


def _reasons(result: dict[str, Any], metrics: Iterable[str]) -> list[str]:
    found = {metric: result["metrics"].get(metric) or {} for metric in metrics}
    null = [
        f"{METRICS[m].label} is null: {v['reason']}." for m, v in found.items() if v.get("reason")
    ]
    return [*null, *(f"Warning: {warning}." for warning in result.get("warnings", []))]
