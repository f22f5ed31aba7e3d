"""Captions beside clips, in the shapes that trainers keep them.

    captions.jsonl, metadata.csv ..     a table: columns for the file and the text, whatever of the
                                        usual names they have; also .json and .tsv, and in folders
    prompts.txt + videos.txt            line by line
    cat.txt beside cat.mp4              a text for a clip

The first of these that there is counts. Paths match across slashes, Unicode forms and capitals,
with the folder's own name before them, and absolute ones by their end.
"""

import csv
import dataclasses
import io
import json
import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from fv_jax.data.sources.base import Problem
from fv_jax.files import read_text

_NAMES = ("captions", "metadata")
_MAYBE = ("dataset", "data", "annotations", "prompts", "train")  # tables if they look like one
_TABLES = (".jsonl", ".csv", ".json", ".tsv")
_FILE_KEYS = (
    "file_name", "file", "video", "path", "video_path", "media_path", "filename", "file_path",
    "filepath", "media", "clip", "videos",
)  # fmt: skip
_TEXT_KEYS = ("text", "caption", "prompt", "captions", "cap", "description")
_PROMPTS, _VIDEOS = ("prompts.txt", "prompt.txt", "captions.txt"), ("videos.txt", "video.txt")
_SIDECARS = (".txt", ".caption")


@dataclasses.dataclass
class Captions:
    """What was found.

    Attributes:
        texts: by clip; None if there are no captions at all.
        problems: captions without clips, clips without captions.
        used: files they were read from.
    """

    texts: dict[str, str] | None = None
    problems: list[Problem] = dataclasses.field(default_factory=list)
    used: set[str] = dataclasses.field(default_factory=set)


def read_captions(folder: Path, clips: Sequence[str], files: Sequence[str]) -> Captions:
    """The captions of a folder's clips, from its text files (paths from the folder, both).

    Raises:
        ValueError: a file of captions that cannot be read as such, or two in one folder.
    """
    found = Captions()
    rows = [*_tables(folder, files, found)] or [*_lines(folder, files, found)]
    if rows or found.used:
        _match(folder, clips, rows, found)
    else:
        _sidecars(folder, clips, set(files), found)
    if found.texts is not None:
        named = {problem.id for problem in found.problems}
        for clip in set(clips) - found.texts.keys() - named:
            found.problems.append(Problem(clip, "no caption"))
        found.problems.sort(key=lambda problem: problem.id)
    return found


Row = tuple[str, str, str]  # folder of the file of captions, path as written, text


def _tables(folder: Path, files: Sequence[str], found: Captions) -> Iterator[Row]:
    homes = defaultdict(list)
    for file in files:
        path = Path(file)
        if path.suffix.lower() in _TABLES and path.stem.lower() in (*_NAMES, *_MAYBE):
            homes[path.parent.as_posix()].append(file)
    for home, tables in homes.items():
        sure = [file for file in tables if Path(file).stem.lower() in _NAMES]
        if len(sure) > 1:
            names = " and ".join(Path(file).name for file in sure)
            raise ValueError(f"{folder / home} holds {names}; keep one file of captions")
        for file in sure or tables[:1]:
            try:
                rows = [_row(folder / file, number, row) for number, row in _rows(folder / file)]
            except ValueError:
                if not sure:  # of another purpose
                    continue
                raise
            found.used.add(file)
            yield from ((home, *row) for row in rows if row)


def _row(path: Path, number: int, row: dict) -> tuple[str, str] | None:
    """Path and text; None for an empty caption, or a row of separators alone."""
    row = {key.strip().lower(): value for key, value in row.items() if isinstance(key, str)}
    if row and not any(row.values()):
        return None
    file = next((row[key] for key in _FILE_KEYS if row.get(key)), None)
    text = next((row[key] for key in _TEXT_KEYS if row.get(key)), None)
    if isinstance(text, list) and text:  # several captions: the first
        text = text[0]
    if isinstance(file, str) and text is None and row.keys() & set(_TEXT_KEYS):
        return None
    if not isinstance(file, str) or not isinstance(text, str):
        raise ValueError(f"{path}, line {number}: want file_name and text, got {row}")
    return file, text


def _rows(path: Path) -> Iterator[tuple[int, dict]]:
    """Line number and dictionary of every caption."""
    text, suffix = read_text(path), path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        table = text.lstrip("\r\n")
        blank = text[: len(text) - len(table)].count("\n")
        head = table.split("\n", 1)[0]  # spreadsheets of some languages write semicolons
        between = "\t" if suffix == ".tsv" else ";" if ";" in head and "," not in head else ","
        reader = csv.DictReader(io.StringIO(table, newline=""), delimiter=between)
        try:
            yield from ((blank + reader.line_num, row) for row in reader)
        except csv.Error as error:  # a quotation mark that never ends, say
            raise ValueError(
                f"{path}, line {blank + reader.line_num}: not CSV ({error})"
            ) from error
        return
    if suffix == ".json":
        yield from _json_rows(path, text)
        return
    for number, line in enumerate(text.split("\n"), 1):  # captions may hold other line breaks
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: want an object, got {line[:60]}")
        yield number, row


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, dict]]:
    """Rows of a list of objects, or of an object of texts by path."""
    try:
        table = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if isinstance(table, dict):
        table = [
            {"file_name": key, **(value if isinstance(value, dict) else {"text": value})}
            for key, value in table.items()
        ]
    if not isinstance(table, list):
        raise ValueError(f"{path}: want a list of objects, got {text[:60]}")
    for number, row in enumerate(table, 1):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, entry {number}: want an object, got {str(row)[:60]}")
        yield number, row


def _lines(folder: Path, files: Sequence[str], found: Captions) -> Iterator[Row]:
    """A file of prompts and one of videos, line by line."""
    names = {file.lower(): file for file in files}
    for home in sorted({posixpath.dirname(file) for file in files}):
        here = [
            next((names[key] for name in group if (key := posixpath.join(home, name).lower())
                  in names), None)
            for group in (_PROMPTS, _VIDEOS)
        ]  # fmt: skip
        prompts, videos = here
        if prompts is None or videos is None:
            continue
        texts, paths = (_no_blank_end(read_text(folder / file)) for file in (prompts, videos))
        if len(texts) != len(paths):
            raise ValueError(
                f"{folder / prompts} has {len(texts)} lines, {videos} {len(paths)}; want as many"
            )
        found.used |= {prompts, videos}
        yield from ((home, path, text) for path, text in zip(paths, texts) if path.strip())


def _no_blank_end(text: str) -> list[str]:
    lines = text.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _sidecars(folder: Path, clips: Sequence[str], files: set[str], found: Captions) -> None:
    """A text beside each clip: of its name, with or without its suffix."""
    taken: dict[str, str] = {}
    exact, alike = {file: file for file in files}, _unique(sorted(files), _small)
    for known, key in ((exact, str), (alike, _small)):  # in other capitals, say, if no exact one
        for clip in clips:
            stems = (str(Path(clip).with_suffix("")), clip) if clip != "." else ()
            beside = (known.get(key(stem + suffix)) for stem in stems for suffix in _SIDECARS)
            if clip not in taken and (file := next(filter(None, beside), None)):
                taken[clip] = file
    if not taken:
        return
    found.texts = {}
    for clip, file in taken.items():
        found.used.add(file)
        try:
            text = " ".join(read_text(folder / file).split())
        except (ValueError, OSError) as error:
            found.problems.append(Problem(clip, f"no caption: {error}"))
            continue
        if text:
            found.texts[clip] = text


def _match(folder: Path, clips: Sequence[str], rows: Sequence[Row], found: Captions) -> None:
    """Texts by clip; what matches none, or could be two, is a problem."""
    found.texts, match, said = {}, Matcher(folder, clips), defaultdict(set)
    for home, written, text in rows:
        text = " ".join(text.split())
        path, clip = match(home, written)
        if clip is None:
            found.problems.append(Problem(path, "captions name it, but there is no such clip"))
            continue
        if not text:
            continue
        if clip in found.texts and path in said[clip]:
            found.problems.append(Problem(clip, "two captions; the last one counts"))
        said[clip].add(path)
        found.texts[clip] = text
    for clip, paths in said.items():
        if len(paths) > 1:  # guessing would give one clip the other's text
            del found.texts[clip]
            names = " and ".join(sorted(paths))
            found.problems.append(Problem(clip, f"captions of {names} could both be meant"))


class Matcher:
    """Finds the clip that a path in a file of captions means.

    Args:
        folder: of the clips.
        clips: paths from there.
    """

    def __init__(self, folder: Path, clips: Sequence[str]):
        self._own = _normal(os.path.realpath(folder)).split("/")
        self._clips = set(clips)
        self._maps = [_unique(clips, key) for key in (_normal, _small, _bare)]
        self._ends = _unique(clips, lambda clip: _small(clip).rsplit("/", 1)[-1])

    def __call__(self, home: str, written: str) -> tuple[str, str | None]:
        """The path as it was compared, and the clip, if there is one."""
        written = written.strip()
        plain = os.path.normpath(os.path.join(home, written)).replace(os.sep, "/")
        if plain in self._clips:
            return plain, plain
        path = _normal(written)
        absolute = path.startswith("/") or re.match(r"[A-Za-z]:/|file:", written) is not None
        for candidate in (posixpath.normpath(posixpath.join(home, path)), path):
            if clip := self._look_up(candidate):
                return candidate, clip
        parts = path.strip("/").split("/")
        for first in range(1, len(parts)):
            if absolute or self._own[-first:] == parts[:first]:
                if clip := self._look_up("/".join(parts[first:])):
                    return path, clip
        if len(parts) == 1 and (clip := self._ends.get(_small(path))):  # it lies in a folder
            return path, clip
        return plain if not absolute else path, None

    def _look_up(self, path: str) -> str | None:
        for key, known in zip((_normal, _small, _small), self._maps):
            if clip := known.get(key(path)):
                return clip
        return None


def _unique(clips: Sequence[str], key) -> dict[str, str]:
    """Clips by a key that they do not share."""
    groups = defaultdict(list)
    for clip in clips:
        groups[key(clip)].append(clip)
    return {name: group[0] for name, group in groups.items() if len(group) == 1}


def _normal(path: str) -> str:
    """One way to write a path: slashes, composed letters, no detours, no drive."""
    path = re.sub(r"^(file://|[A-Za-z]:(?=[\\/]))", "", path).replace("\\", "/")
    return unicodedata.normalize("NFC", posixpath.normpath(path))


def _small(path: str) -> str:
    return _normal(path).casefold()


def _bare(path: str) -> str:
    """Without the suffix, which some captions leave out."""
    return posixpath.splitext(_small(path))[0]
