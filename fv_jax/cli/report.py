"""What `fv report` does: results in, sections of paper.md and a page out."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fv_jax.files import write_text
from fv_jax.planning.estimate import MFU, hours
from fv_jax.reporting import page, tables
from fv_jax.reporting.tables import Table
from fv_jax.training import experiments

if TYPE_CHECKING:
    from fv_jax.cli.commands import Report

_GPUS, _GPU = 8, "A100-80GB"  # the paper's
_STAGES = ("tokenizer", "key_frames", "interpolation")
_FRESH = Path("out/evaluate/results")  # what the page shows beside the recorded results
_TITLE = "FlashVideo in JAX: the paper's tables and figures"


def run(command: "Report") -> int:
    """Write the paper's sections and the page with clips. Returns the exit code.

    Raises:
        FileNotFoundError: the paper's tables, a folder of results or the page for them is not here.
        ValueError: a result file is none.
    """
    home = experiments.folders()[0]
    results = command.results or (home / "results",)
    for folder in results:
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {str(folder)!r} of results; give --results FOLDER")
    readme = command.readme or _own_readme(home, command.page)
    if not readme.is_file():
        raise FileNotFoundError(
            f"no file {str(readme)!r} whose sections to replace; give --readme FILE"
        )
    paper = json.loads((home / "paper_tables.json").read_text(encoding="utf-8"))
    known = {name: _needs(name) for name in (t["experiment"] for t in paper["tables"])}
    recorded = tables.read_results(results, "evaluate")
    speeds = tables.read_results(results, "efficiency")
    _write_readme(readme, paper, recorded, speeds, known)
    fresh = tables.read_results([_FRESH], "evaluate")
    paths = {result["path"].resolve() for result in recorded}
    fresh = [r | {"fresh": True} for r in fresh if r["path"].resolve() not in paths]
    seen = [*recorded, *fresh]
    shown = _write_page(command.page, paper, seen, speeds, known)
    print(
        f"{len(recorded)} evaluations and {len(speeds)} speed benches in {readme}; "
        f"{len(seen)} evaluations and {shown} playing pairs in {command.page / 'index.html'}"
    )
    return 0


def _own_readme(home: Path, page: Path) -> Path:
    """The recorded page of a clone; outside of one a copy that may be written."""
    recorded = home / "results" / "paper.md"
    if home.resolve() == Path("experiments").resolve():
        return Path(os.path.relpath(recorded))
    page.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(recorded, page / "paper.md"))


def _needs(name: str) -> str:
    """What the paper's training of this experiment takes, and how it is measured."""
    module = experiments.load_training(name)
    stages = [module.get_config(stage=stage) for stage in _STAGES]
    each = [hours(config, devices=_GPUS, accelerator=_GPU) for config in stages]
    return (
        f"the data set, {_GPUS} x {_GPU} for about {sum(each):,.0f} hours (its FLOPs at {MFU:.0%} "
        f"of the peak; `fv train {name} --estimate` says more), I3D weights; the commands in "
        f"experiments/{name}.py, then `fv evaluate {name} --i3d-weights FILE`, by the paper's own "
        "conditions with `--protocol flashvideo` and, for Fig. 5, `--protocol flashvideo_five`."
    )


def _write_readme(
    path: Path, paper: dict[str, Any], results: Sequence[dict], speeds: Sequence[dict],
    known: dict[str, str],
) -> None:  # fmt: skip
    text = path.read_text(encoding="utf-8")
    every = _tables(paper, results, known)
    begin = f"`fv report`; the paper's rows are of {paper['paper']}. {paper['note']}\n"
    sections = {
        "paper-tables": [begin, *map(tables.markdown, every)],
        "paper-figure-5": [
            "Ours above ground truth; frames that the model was given have a yellow border.\n",
            *(_figure_5(path.parent, result) for result in results if _picture(result)),
            "" if any(map(_picture, results)) else "not run: needs `fv evaluate EXPERIMENT`.\n",
        ],
        "paper-figure-6": [
            *(tables.markdown(table) for table in tables.figure_6(paper, speeds)),
            *(_figure_6(path.parent, result) for result in speeds),
        ],
    }
    for name, parts in sections.items():
        section = "\n".join(part for part in parts if part).strip()
        text = tables.replace_section(text, name, section + "\n")
    write_text(path, text)


def _tables(paper: dict[str, Any], results: Sequence[dict], known: dict[str, str]) -> list[Table]:
    """The paper's tables with our rows, then our own evaluations if there are any."""
    own = tables.own_table(paper, results)
    return [*tables.paper_tables(paper, results, known.__getitem__), *([own] if own else [])]


def _figure_5(home: Path, result: dict[str, Any]) -> str:
    path = Path(os.path.relpath(_picture(result) or "", home)).as_posix()
    return f"{result['name']} (`{result['command']}`):\n\n![{result['name']}]({quote(path)})\n"


def _figure_6(home: Path, result: dict[str, Any]) -> str:
    picture = result["path"].with_suffix(".png")
    if not picture.is_file():
        return ""
    return f"![ms per frame]({quote(Path(os.path.relpath(picture, home)).as_posix())})\n"


def _picture(result: dict[str, Any]) -> Path | None:
    """Fig. 5 of a result that has one: of an experiment, whose clips follow given frames."""
    picture = result["path"].with_suffix(".png")
    return picture if "experiment" in result and picture.is_file() else None


def _write_page(
    folder: Path, paper: dict[str, Any], results: Sequence[dict], speeds: Sequence[dict],
    known: dict[str, str],
) -> int:  # fmt: skip
    """The page and all it shows; gives how many pairs play."""
    folder.mkdir(parents=True, exist_ok=True)
    every = _tables(paper, results, known)
    clips, shown = [], 0
    for number, result in enumerate(results):
        fresh = ", fresh: not recorded" if result.get("fresh") else ""
        clips.append(page.heading(result["name"] + fresh))
        if picture := _picture(result):
            place = f"pictures/{number}"  # results in two folders may have one name
            clips.append(page.picture(_copied(picture, folder, place), "ours above real"))
        pairs = [_pair(pair, folder, f"clips/{number}") for pair in result.get("shown", [])]
        pairs = [pair for pair in pairs if pair]
        shown += len(pairs)
        clips.append(
            page.pairs(pairs) if pairs
            else page.note(f"No clips here; make them with `{result['command']}`.")
        )  # fmt: skip
    sections = [
        ("Tables 1 to 3", [page.note(paper["note"]), *map(page.table, every)]),
        ("Fig. 5: clips", clips or [page.note("not run: needs `fv evaluate EXPERIMENT`.")]),
        (
            "Fig. 6: speed",
            [
                *(page.efficiency_plot(result) for result in speeds),
                *(page.table(table) for table in tables.figure_6(paper, speeds)),
            ],
        ),
    ]
    write_text(folder / "index.html", page.page(_TITLE, sections))
    return shown


def _pair(pair: dict[str, str], folder: Path, below: str) -> dict[str, str] | None:
    paths = {kind: Path(pair[kind]) for kind in ("fake", "real")}
    if not all(path.is_file() for path in paths.values()):
        return None
    copied = {kind: _copied(path, folder, below) for kind, path in paths.items()}
    return {"text": pair["text"], **copied}


def _copied(path: Path, folder: Path, below: str) -> str:
    """A file put beside the page; its path from there."""
    place = folder / below / path.name
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, place)
    return quote(f"{below}/{path.name}")
