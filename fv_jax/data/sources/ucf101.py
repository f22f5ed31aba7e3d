"""UCF-101: 13,320 clips of 101 actions, as its two archives unpack.

    DIR/UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi    group 8, clip 1
    DIR/ucfTrainTestlist/trainlist01.txt                       the official splits, lists 1 to 3

The clips may lie in any folder under DIR, the lists there or beside DIR. Clips of a group come
from one film: only the official lists keep groups apart.
"""

import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from fv_jax.config.registry import require_known
from fv_jax.data.sources.base import Entry, Problem
from fv_jax.files import read_text
from fv_jax.media.video_file import VIDEO_SUFFIXES, VideoFile

SPLITS = ("train", "test", "all")
_CLIP = re.compile(r"v_([a-z]+)_g\d+_c\d+", re.IGNORECASE)


class UCF101:
    """The clips of an official split, or all; the text is the class in words.

    Args:
        name: the text that named the source, as `open_source` takes it.
        place: folder with the clips.
        split: train or test, of the lists of number `list`; or all clips there are.
        list: 1, 2 or 3.
    """

    noise_free = False
    problems: Sequence[Problem]

    def __init__(self, *, name: str, place: str, split: str = "train", list: int = 1):
        self.name, self.folder, self.split = name, Path(place), split
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no folder {place!r}; {_UNPACK}")
        require_known("ucf101's split", split, SPLITS)
        if list not in (1, 2, 3):
            raise ValueError(f"ucf101's list must be 1, 2 or 3, got {list}")
        files, lists, self.problems = _look_through(self.folder)
        if not files:
            raise FileNotFoundError(f"no clip named v_Class_g01_c01.avi in {place}; {_UNPACK}")
        if split == "all":
            stems = sorted(_canonical(path.stem) for path in files.values())
        else:
            stems = _listed(self.folder, lists, f"{split}list{list:02d}.txt")
        self._clips = [(stem, files[stem.lower()]) for stem in stems if stem.lower() in files]
        self.problems += [
            Problem(_id(stem), "the list names it, but there is no such file")
            for stem in stems
            if stem.lower() not in files
        ]

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Entry:
        stem, path = self._clips[index]
        return Entry(_id(stem), words(_class(stem)), functools.partial(VideoFile, path))


_UNPACK = (
    "unpack UCF101.rar and UCF101TrainTestSplits-RecognitionTask.zip of "
    "https://www.crcv.ucf.edu/data/UCF101.php there"
)


def words(label: str) -> str:
    """A class as words: ApplyEyeMakeup is "Apply Eye Makeup"."""
    return " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", label))


def _look_through(folder: Path) -> tuple[dict[str, Path], dict[str, Path], list[Problem]]:
    """Clips by their name in small letters, lists by file name, and what is odd."""
    clips: dict[str, Path] = {}
    lists: dict[str, Path] = {}
    problems = []
    for home, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        for file in sorted(files):
            path = Path(home, file)
            if re.fullmatch(r"(train|test)list0\d\.txt", file):
                lists.setdefault(file, path)
            elif path.suffix.lower() in VIDEO_SUFFIXES and _CLIP.fullmatch(path.stem):
                if (first := clips.setdefault(path.stem.lower(), path)) != path:
                    shown = first.relative_to(folder)
                    problems.append(
                        Problem(str(path.relative_to(folder)), f"left out, the same as {shown}")
                    )
    return clips, lists, problems


def _listed(folder: Path, found: dict[str, Path], file: str) -> list[str]:
    """Names of the clips in a list, without folder and suffix."""
    beside = Path(os.path.abspath(folder)).parent / "ucfTrainTestlist" / file
    path = found.get(file, beside)
    if not path.is_file():
        raise FileNotFoundError(
            f"no {file} in {folder} nor in ucfTrainTestlist beside it; {_UNPACK}, or take split=all"
        )
    stems: dict[str, None] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        stem = Path(line.split()[0]).stem  # the train lists have the class's number after it
        if not _CLIP.fullmatch(stem):
            raise ValueError(f"{path}, line {number}: want Class/v_Class_g01_c01.avi, got {line!r}")
        stems[_canonical(stem)] = None
    return [*stems]


def _canonical(stem: str) -> str:
    """One spelling for the class whose clips and folder are spelt in two ways."""
    return re.sub("HandStandPushups", "HandstandPushups", stem, flags=re.IGNORECASE)


def _class(stem: str) -> str:
    match = _CLIP.fullmatch(stem)
    assert match is not None
    return match[1]


def _id(stem: str) -> str:
    return f"{_class(stem)}/{stem}"
