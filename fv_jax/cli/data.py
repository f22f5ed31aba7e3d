"""What `fv data inspect` does around `data/inspect.py`: a contact sheet, a report, its lines."""

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fv_jax.cli.parsing import is_folder
from fv_jax.cli.paths import check_writable, place_of
from fv_jax.data.inspect import inspect as look_through
from fv_jax.data.sources.base import open_source
from fv_jax.files import write_text
from fv_jax.media.montage import contact_sheet, save_png

if TYPE_CHECKING:
    from fv_jax.cli.commands import Inspect

_SHOWN = 24  # clips on the sheet
_MOST_COMMON, _MOST_IDS = 10, 10  # in a line


def inspect(command: "Inspect") -> int:
    """Look through a source. Returns the exit code: 2 with --strict if anything is wrong.

    Raises:
        ValueError: a wrong option, no such source, or not one clip that can be read.
    """
    if command.sheet.suffix.lower() != ".png" or is_folder(command.sheet):
        raise ValueError(f"--sheet must name a .png file, got {str(command.sheet)!r}")
    source = open_source(command.source)
    beside = command.sheet.parent / "inspect.json"
    for path in (command.sheet, beside):
        check_writable(path, inputs=[place_of(command.source)], flag="--sheet")
    found = look_through(source, probe=command.probe, decode=command.decode)
    report = found.report()
    write_text(beside, json.dumps(report, indent=1) + "\n")
    if not found.facts:
        first = found.problems[-1]
        raise ValueError(
            f"none of {found.probed} clips of {source.name} can be read; {_shown(first.id)}: "
            f"{_shown(first.reason)} (all in {beside})"
        )
    some = found.some(_SHOWN)
    clips = ((_shown(name), _shown(text), frames) for name, text, frames in found.shown(some))
    save_png(contact_sheet(clips, len(some)), command.sheet)
    print("\n".join(_lines(report)))
    print(f"wrote      {command.sheet}, {beside}")
    if found.problems and command.strict:
        print(f"fv: {len(found.problems)} problems, and --strict allows none", file=sys.stderr)
        return 2
    return 0


def _lines(report: dict) -> list[str]:
    """The report as people read it."""
    seconds, frames = report["seconds"], report["frames"]
    how = "every frame" if report["every_frame_decoded"] else "first, middle and last frame"
    all_of = report["probed"] == report["clips"]
    total = _duration(seconds["total"])
    if not all_of:
        whole = seconds["total"] / report["readable"] * report["clips"]
        total += f" in these, about {_duration(whole)} in all"
    lines = [
        f"source     {_shown(report['source'])}",
        f"clips      {report['clips']}, {report['probed']} opened ({how}), "
        f"{report['readable']} readable",
        f"length     {total}; {_range(seconds, 's')}",
        f"frames     {frames['total']}; {_range(frames, 'a clip')}",
        f"rate       {_range(report['fps'], 'fps')}: {_counts(report['common_fps'])}",
        f"size       {_counts(report['sizes'])}",
        f"texts      {report['distinct_texts']} distinct, the longest of "
        f"{report['longest_text_words']} words",
    ]
    lines += [f"{count:>10} {_shown(text)}" for text, count in report["texts"].items()]
    if report["notes"]:
        lines.append("told")
        told = [(each["id"], note) for each in report["each"] for note in each["notes"]]
        lines += _grouped(told)
    if report["left_out"]:
        lines.append(f"left out   {len(report['left_out'])} files and folders that are no clips")
        lines += _grouped(report["left_out"].items())
    lines.append(f"problems   {len(report['problems']) or 'none'}")
    return lines + _grouped((each["id"], each["reason"]) for each in report["problems"])


def _grouped(reasons: Iterable[tuple[str, str]]) -> list[str]:
    """Whom each reason meets; those that differ in their numbers only are one, with N for them."""
    groups, exact = defaultdict(list), defaultdict(set)
    for name, reason in reasons:
        kind = re.sub(r"\d+(\.\d+)?", "N", _shown(reason))
        groups[kind].append(_shown(name))
        exact[kind].add(_shown(reason))
    lines = []
    for kind, ids in sorted(groups.items(), key=lambda group: -len(group[1])):
        reason = kind if len(exact[kind]) > 1 else exact[kind].pop()
        more = f" and {len(ids) - _MOST_IDS} more" if len(ids) > _MOST_IDS else ""
        lines.append(f"{len(ids):>10} {reason}: {', '.join(ids[:_MOST_IDS])}{more}")
    return lines


def _range(spread: dict[str, float], unit: str) -> str:
    low, middle, high = (f"{spread[key]:.4g}" for key in ("min", "median", "max"))
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}, median {middle}"


def _counts(counts: dict[str, int]) -> str:
    parts = [f"{value} ({count})" for value, count in list(counts.items())[:_MOST_COMMON]]
    return ", ".join(parts) + (", .." if len(counts) > _MOST_COMMON else "")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _shown(text: str) -> str:
    """Fit for a terminal, whatever bytes a file's name has."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text)
