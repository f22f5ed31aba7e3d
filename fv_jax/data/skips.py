"""Clips that are left out: each reported once with its reason, and counted.

One small file per clip in a folder, so that threads, worker processes and continued runs agree
on what has been reported.
"""

import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from fv_jax.data.sources.base import Problem, Source, left_out_of
from fv_jax.media.readers import ClipError
from fv_jax.media.walk import of_left_out


class Skips:
    """The record of what is left out.

    Args:
        folder: the folder that keeps it; made when needed.
        strict: raise instead of leaving a clip out.
    """

    def __init__(self, folder: Path, *, strict: bool = False):
        self.folder, self.strict = folder, strict

    def add(self, clip: str, reason: object) -> None:
        """Leave a clip out.

        Raises:
            ValueError: `strict` is set.
        """
        if self.strict:
            raise ValueError(f"{clip}: {reason} (without --strict it would be left out)")
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{hashlib.sha256(clip.encode()).hexdigest()[:16]}.json"
        text = json.dumps({"id": clip, "reason": str(reason)}) + "\n"
        with tempfile.NamedTemporaryFile("w", dir=self.folder, encoding="utf-8") as file:
            file.write(text)
            file.flush()
            try:
                os.link(file.name, path)  # whole or not at all, and only once
            except FileExistsError:
                return
        tqdm.write(f"fv: left out {clip}: {reason}", file=sys.stderr)

    def problems(self) -> list[Problem]:
        """All that was left out so far, by id."""
        lines = [path.read_text(encoding="utf-8") for path in self.folder.glob("*.json")]
        problems = [Problem(**json.loads(line)) for line in lines if line.endswith("\n")]
        return sorted(problems, key=lambda problem: problem.id)


def report_problems(*sources: Source, strict: bool) -> None:
    """Say what each source lacks before anything is made of it, such as missing files, and how much
    of what lies in its folder is no clip.

    Args:
        sources: one that comes twice is reported once.
        strict: refuse it instead.

    Raises:
        ValueError: there is something, and `strict` is set.
    """
    for source in {id(source): source for source in sources}.values():
        if strict:
            check_none(source.name, source.problems)
        if source.problems:
            print(f"fv: left out {_summary(source.name, source.problems)}", file=sys.stderr)
        if left_out := left_out_of(source):
            print(f"fv: {source.name}: {of_left_out(left_out)}", file=sys.stderr)


def report_notes(notes: Iterable[tuple[str, str]]) -> None:
    """Say in one line a kind what there is to know of how clips are shown.

    Args:
        notes: a clip and a note of it; notes that differ in their numbers are of one kind.
    """
    kinds: dict[str, dict[str, str]] = {}
    for clip, note in notes:
        kinds.setdefault(re.sub(r"\d+", "N", note), {})[clip] = note
    for clips in kinds.values():
        clip, note = next(iter(clips.items()))
        print(f"fv: {len(clips)} clips, such as {clip}: {note}", file=sys.stderr)


def check_some_opens(source: Source) -> None:
    """See to it that some clip can be opened, before a folder is made for what comes of it.

    Raises:
        ValueError: none can.
    """
    reasons = []
    for index in range(len(source)):
        try:
            source[index].open()
        except ClipError as error:
            reasons.append(f"{source[index].id}: {error}")
        else:
            return
    raise ValueError(f"none of {len(source)} clips of {source.name} can be read, e.g. {reasons[0]}")


def check_none(where: object, problems: Sequence[Problem]) -> None:
    """Refuse what `--strict` does not allow.

    Raises:
        ValueError: there is a problem.
    """
    if problems:
        raise ValueError(f"{_summary(where, problems)} (without --strict they would be left out)")


def _summary(where: object, problems: Sequence[Problem]) -> str:
    first = problems[0]
    return f"{len(problems)} clips of {where}, e.g. {first.id}: {first.reason}"
