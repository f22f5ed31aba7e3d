"""Your own videos: a folder of them, or of folders of pictures.

    clips/captions.jsonl       {"file_name": "cat.mp4", "text": "a cat jumps"} per line, or .csv
    clips/cat.mp4              without captions a clip's text is the folder it lies in:
    clips/dancing/001.gif      "dancing"
    clips/dancing/002/0001.png .. a folder that holds pictures only is one clip
    clips/dancing/003.webp     an animation is a clip of its own

Captions, where there are any (`captions.py` knows more shapes of them), say which clips there are;
a clip that none names is a problem. Files that are neither are kept in `left_out`, with the reason.
"""

import functools
import re
from pathlib import Path

from fv_jax.config.registry import choices
from fv_jax.data.sources.base import SOURCES, UNTITLED, Entry
from fv_jax.data.sources.captions import read_captions
from fv_jax.media.opening import PICTURE_FPS, open_clip
from fv_jax.media.readers import Reader
from fv_jax.media.walk import natural, walk


class VideoFolder:
    """Every video, GIF and folder of pictures under a folder.

    Args:
        name: the text that named the source, as `open_source` takes it.
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
                f"({choices(place, SOURCES)}; `fv data inspect --help` says more)"
            )
        if not 0 < picture_fps <= 1000:
            raise ValueError(f"picture_fps must be > 0 and <= 1000, got {picture_fps:g}")
        self._picture_fps = picture_fps
        found = walk(self.folder)
        captions = read_captions(self.folder, found.clips, found.texts)
        self.problems, self.left_out = captions.problems, found.left_out
        for path in found.texts:
            if path not in captions.used:
                self.left_out[path] = "a text that is no clip's caption"
        clips, self._texts = set(found.clips), captions.texts
        if self._texts is not None:
            clips &= self._texts.keys()
        parts = (re.escape(part) for part in match.split("*"))
        pattern = re.compile(".*".join(parts), re.DOTALL)
        self._paths = sorted((p for p in clips if pattern.fullmatch(p)), key=natural)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Entry:
        path = self._paths[index]
        text = self._texts[path] if self._texts is not None else _folder_words(path)
        return Entry(_as_text(path), _as_text(text), functools.partial(self._open, path))

    def _open(self, path: str) -> Reader:
        return open_clip(self.folder / path, picture_fps=self._picture_fps)


def _as_text(path: str) -> str:
    """The bytes of names that are not UTF-8 as \\udcff: ids are hashed, texts are learned."""
    return path.encode("utf-8", "backslashreplace").decode()


def _folder_words(path: str) -> str:
    """The class of a clip: the folder it lies in, as words."""
    home = Path(path).parent.name
    return " ".join(re.split(r"[\s_\-]+", home)).strip() or UNTITLED
