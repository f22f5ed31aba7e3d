"""Your own videos: a folder of them, or of folders of pictures.

    clips/captions.jsonl       {"file_name": "cat.mp4", "text": "a cat jumps"} per line, or .csv
    clips/cat.mp4              without captions a clip's text is the folder it lies in:
    clips/dancing/001.gif      "dancing"
    clips/dancing/002/0001.png .. a folder that holds pictures only is one clip

Captions, where there are any, say which clips there are; a file that none names is a problem.
"""

import csv
import functools
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from fv_jax.data.sources.base import UNTITLED, Entry, Problem
from fv_jax.media.opening import PICTURE_FPS, open_clip
from fv_jax.media.readers import Reader
from fv_jax.media.walk import natural, walk

CAPTIONS = ("captions.jsonl", "captions.csv", "metadata.jsonl", "metadata.csv")
_FILE_KEYS, _TEXT_KEYS = ("file_name", "file", "video", "path"), ("text", "caption")


class VideoFolder:
    """Every video, GIF and folder of pictures under a folder.

    Args:
        name: of the source.
        place: the folder.
        match: only clips whose path from there matches this pattern (`*` any characters).
        picture_fps: frames per second of folders of pictures, which do not say it themselves.
    """

    noise_free = False

    def __init__(
        self, *, name: str, place: str, match: str = "*", picture_fps: float = PICTURE_FPS
    ):
        self.name, self.folder = name, Path(place)
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"no folder {place!r}; give a folder of videos, or KIND:PATH "
                "(`fv data inspect --help` lists the kinds)"
            )
        if not 0 < picture_fps <= 1000:
            raise ValueError(f"picture_fps must be > 0 and <= 1000, got {picture_fps:g}")
        self._picture_fps = picture_fps
        self.problems: list[Problem] = []
        clips = set(walk(self.folder).clips)
        texts = self._captions()
        if texts is not None:
            for path in texts.keys() - clips:
                self.problems.append(Problem(path, "captions name it, but there is no such clip"))
            for path in clips - texts.keys():
                self.problems.append(Problem(path, "no caption"))
            self.problems.sort(key=lambda problem: problem.id)
            clips &= texts.keys()
        parts = (re.escape(part) for part in match.split("*"))
        pattern = re.compile(".*".join(parts), re.DOTALL)
        self._paths = sorted((p for p in clips if pattern.fullmatch(p)), key=natural)
        self._texts = texts

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Entry:
        path = self._paths[index]
        text = self._texts[path] if self._texts is not None else _folder_words(path)
        return Entry(_as_text(path), _as_text(text), functools.partial(self._open, path))

    def _open(self, path: str) -> Reader:
        return open_clip(self.folder / path, picture_fps=self._picture_fps)

    def _captions(self) -> dict[str, str] | None:
        """Text by path, or None if there is no file of captions."""
        files = [self.folder / name for name in CAPTIONS if (self.folder / name).is_file()]
        if not files:
            return None
        if len(files) > 1:
            names = " and ".join(file.name for file in files)
            raise ValueError(f"{self.folder} holds {names}; keep one file of captions")
        texts: dict[str, str] = {}
        for number, row in _rows(files[0]):
            file = next((row[key] for key in _FILE_KEYS if row.get(key)), None)
            text = next((row[key] for key in _TEXT_KEYS if row.get(key)), None)
            if isinstance(file, str) and text is None and row.keys() & set(_TEXT_KEYS):
                continue  # an empty caption is no caption
            if not isinstance(file, str) or not isinstance(text, str):
                raise ValueError(f"{files[0]}, line {number}: want file_name and text, got {row}")
            path = os.path.normpath(file).replace(os.sep, "/")
            if path in texts:
                self.problems.append(Problem(path, "two captions; the last one counts"))
            texts[path] = " ".join(text.split())
        return texts


def _rows(path: Path) -> Iterator[tuple[int, dict]]:
    """Line number and dictionary of every caption."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text file") from error
    if path.suffix == ".csv":
        reader = csv.DictReader(io.StringIO(text, newline=""))
        try:
            yield from ((reader.line_num, row) for row in reader)
        except csv.Error as error:  # a quotation mark that never ends, say
            raise ValueError(f"{path}, line {reader.line_num}: not CSV ({error})") from error
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


def _as_text(path: str) -> str:
    """The bytes of names that are not UTF-8 as \\udcff: ids are hashed, texts are learned."""
    return path.encode("utf-8", "backslashreplace").decode()


def _folder_words(path: str) -> str:
    """The class of a clip: the folder it lies in, as words."""
    home = Path(path).parent.name
    return " ".join(re.split(r"[\s_\-]+", home)).strip() or UNTITLED
