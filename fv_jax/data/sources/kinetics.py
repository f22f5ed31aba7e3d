"""Kinetics-600: a CSV of YouTube clips, and those of them that could be fetched.

    DIR/annotations/train.csv      label,youtube_id,time_start,time_end,split
    DIR/train/-0IErS_cKXQ_000050_000060.mp4      id, start and end in seconds

CSV and clips may lie anywhere under DIR, in folders of labels too. Videos disappear from
YouTube all the time, so a clip without a file is a problem to report, not an error.
"""

import csv
import functools
import io
import os
from pathlib import Path

from fv_jax.config.registry import require_known
from fv_jax.data.sources.base import UNTITLED, Entry, Problem
from fv_jax.files import read_text
from fv_jax.media.video_file import VideoFile

SPLITS = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}
_PREFIXES = ("", "kinetics-600_", "kinetics_600_", "kinetics600_")
_SUFFIXES = (".mp4", ".mkv", ".webm")
_COLUMNS = ("label", "youtube_id", "time_start", "time_end")


class Kinetics600:
    """The clips of a split that are there; the text is the label.

    Args:
        name: the text that named the source, as `open_source` takes it.
        place: folder of CSV and clips.
        split: train, val or test.
    """

    noise_free = False

    def __init__(self, *, name: str, place: str, split: str = "train"):
        self.name, self.folder, self.split = name, Path(place), split
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no folder {place!r}; give the one with Kinetics-600's clips")
        require_known("kinetics600's split", split, SPLITS)
        files, table = _look_through(self.folder, split)
        self._clips: list[tuple[str, str, Path]] = []
        self.problems: list[Problem] = []
        for stem, label in _rows(table).items():
            if stem in files:
                self._clips.append((stem, label, files[stem]))
            else:
                self.problems.append(Problem(stem, "no file; its video may be gone from YouTube"))

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Entry:
        stem, label, path = self._clips[index]
        return Entry(stem, label, functools.partial(VideoFile, path))


def _look_through(folder: Path, split: str) -> tuple[dict[str, Path], Path]:
    """Clips by name without suffix, and the split's CSV."""
    names = [f"{prefix}{word}.csv" for prefix in _PREFIXES for word in SPLITS[split]]
    clips: dict[str, Path] = {}
    tables: list[Path] = []
    for home, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        for file in sorted(files):
            stem, suffix = os.path.splitext(file)
            if suffix.lower() in _SUFFIXES:
                clips.setdefault(stem, Path(home, file))
            elif file in names:
                tables.append(Path(home, file))
    if not tables:
        raise FileNotFoundError(
            f"no {names[0]} in {folder} or below; put Kinetics-600's annotations there "
            "(github.com/cvdfoundation/kinetics-dataset has them and the clips)"
        )
    if len(tables) > 1:
        found = " and ".join(str(path.relative_to(folder)) for path in tables)
        raise ValueError(f"{folder} holds {found}; keep one CSV of the split")
    return clips, tables[0]


def _rows(path: Path) -> dict[str, str]:
    """Label by name of the clip, in the order of the CSV."""
    try:
        return _labels(path, csv.DictReader(io.StringIO(read_text(path), newline="")))
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV file ({error})") from error


def _labels(path: Path, rows: csv.DictReader) -> dict[str, str]:
    labels: dict[str, str] = {}
    missing = [column for column in _COLUMNS if column not in (rows.fieldnames or ())]
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}; want {','.join(_COLUMNS)},split"
        )
    for row in rows:
        try:
            start, end = (round(float(row[key])) for key in ("time_start", "time_end"))
            stem = f"{row['youtube_id'].strip()}_{start:06d}_{end:06d}"
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(
                f"{path}, line {rows.line_num}: want {','.join(_COLUMNS)}, "
                f"got {','.join(str(value) for value in row.values())}"
            ) from error
        labels[stem] = " ".join((row["label"] or "").split()) or UNTITLED
    return labels
