"""What `fv data inspect` does: counts what a source holds, tries to read it, shows some of it."""

import dataclasses
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from fv_jax.data.sources.base import Entry, Problem, Source, open_source
from fv_jax.files import write_text
from fv_jax.media.contact_sheet import contact_sheet
from fv_jax.media.frames import in_parts
from fv_jax.media.montage import save_png
from fv_jax.media.readers import ClipError, Reader, fps_of

if TYPE_CHECKING:
    from fv_jax.cli.commands import Inspect

_SHOWN = 24  # clips on the sheet
_MOST_COMMON, _MOST_IDS = 10, 10  # lines of a list


@dataclasses.dataclass(frozen=True)
class Facts:
    """Of a clip that could be read: which one, and frames, frames per second, seconds, (Y, X)."""

    index: int
    frames: int
    fps: float
    seconds: float
    size: tuple[int, int]


def inspect(command: "Inspect") -> int:
    """Look through a source. Returns the exit code: 2 with --strict if anything is wrong.

    Raises:
        ValueError: a wrong option, no such source, or not one clip that can be read.
    """
    if command.probe < 0:
        raise ValueError(f"--probe must be >= 0, got {command.probe}")
    if command.sheet.suffix.lower() != ".png" or command.sheet.is_dir():
        raise ValueError(f"--sheet must name a .png file, got {str(command.sheet)!r}")
    source = open_source(command.source)
    numbers = _evenly(len(source), command.probe)
    facts, problems = _probe(source, numbers, decode=command.decode)
    texts = Counter(source[i].text for i in range(len(source)))
    report = _report(source, numbers, facts, texts, problems, command.decode)
    beside = command.sheet.parent / "inspect.json"
    write_text(beside, json.dumps(report, indent=1) + "\n")
    if not facts:
        first = problems[-1]
        raise ValueError(
            f"none of {len(numbers)} clips of {source.name} can be read; {_shown(first.id)}: "
            f"{_shown(first.reason)} (all in {beside})"
        )
    some = [facts[i] for i in _evenly(len(facts), _SHOWN)]
    save_png(contact_sheet(_thumbnails(source, some), len(some)), command.sheet)
    print("\n".join(_lines(report)))
    print(f"wrote      {command.sheet}, {beside}")
    if problems and command.strict:
        print(f"fv: {len(problems)} problems, and --strict allows none", file=sys.stderr)
        return 2
    return 0


def _evenly(count: int, most: int) -> list[int]:
    """Numbers of at most `most` of `count` clips (0: all), the first and last among them."""
    if not most or most >= count:
        return list(range(count))
    return np.linspace(0, count - 1, most).round().astype(int).tolist()


def _probe(
    source: Source, numbers: list[int], *, decode: bool
) -> tuple[list[Facts], list[Problem]]:
    """Open the clips and decode of each three frames, or all."""
    facts, problems = [], list(source.problems)
    for number in tqdm(numbers, desc="reading", unit="clip", leave=False):
        entry = source[number]
        try:
            facts.append(_read(number, entry, decode))
        except ClipError as error:
            problems.append(Problem(entry.id, str(error)))
    return facts, problems


def _read(number: int, entry: Entry, decode: bool) -> Facts:
    reader = entry.open()
    if decode:
        for _ in in_parts(reader, range(len(reader.times))):
            pass
    else:
        reader.frames(_three(reader))
    fps, count = fps_of(reader), len(reader.times)
    return Facts(number, count, fps, float(reader.times[-1]) + 1 / fps, reader.size)


def _three(reader: Reader) -> list[int]:
    last = len(reader.times) - 1
    return [0, last // 2, last]


def _thumbnails(source: Source, facts: list[Facts]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Name, text and three frames of each clip."""
    for fact in facts:
        entry = source[fact.index]
        reader = entry.open()
        yield _shown(entry.id), _shown(entry.text), reader.frames(_three(reader))


def _report(
    source: Source,
    numbers: list[int],
    facts: list[Facts],
    texts: Counter[str],
    problems: list[Problem],
    decoded: bool,
) -> dict:
    """Everything that is printed, and every problem, ready for JSON."""
    sizes = Counter(f"{fact.size[1]}x{fact.size[0]}" for fact in facts)
    return {
        "source": source.name,
        "clips": len(source),
        "probed": len(numbers),
        "readable": len(facts),
        "every_frame_decoded": decoded,
        "frames": _spread([fact.frames for fact in facts]),
        "seconds": _spread([fact.seconds for fact in facts]),
        "fps": _spread([fact.fps for fact in facts]),
        "common_fps": dict(Counter(f"{fact.fps:.4g}" for fact in facts).most_common()),
        "sizes": dict(sizes.most_common()),
        "texts": dict(texts.most_common(_MOST_COMMON)),
        "distinct_texts": len(texts),
        "longest_text_words": max((len(text.split()) for text in texts), default=0),
        "problems": [dataclasses.asdict(problem) for problem in problems],
    }


def _spread(values: list) -> dict[str, float]:
    if not values:
        return {}
    low, middle, high = min(values), float(np.median(values)), max(values)
    return {"total": sum(values), "min": low, "median": middle, "max": high}


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
    lines.append(f"problems   {len(report['problems']) or 'none'}")
    return lines + _problem_lines(report["problems"])


def _problem_lines(problems: list[dict]) -> list[str]:
    """Reasons that differ in their numbers only are one."""
    groups = defaultdict(list)
    for problem in problems:
        reason = re.sub(r"\d+(\.\d+)?", "N", _shown(problem["reason"]))
        groups[reason].append(_shown(problem["id"]))
    lines = []
    for reason, ids in sorted(groups.items(), key=lambda group: -len(group[1])):
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
