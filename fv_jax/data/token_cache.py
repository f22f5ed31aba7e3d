"""Clips as ids on disk, so that training reads tokens and never decodes or encodes pixels.

    manifest.json           what the ids are of, and what made them; counts; clips left out
    tokenizer.safetensors   the tokenizer itself
    00000.array_record      a shard: first a JSON record about its clips, then for each clip
                            its ids, uint16 [F, h, w], little-endian

`tokenize.py` writes such a folder, `TokenFolder` reads it.
"""

import dataclasses
import json
import operator
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from jaxtyping import UInt16

from fv_jax.config.model import from_json, to_json
from fv_jax.data.sources.base import parse as parse_source
from fv_jax.files import write_text
from fv_jax.files.buckets import is_bucket, local

MANIFEST, TOKENIZER = "manifest.json", "tokenizer.safetensors"
FORMAT = "fv-jax tokens 1"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What manifest.json says of a folder of tokens.

    Attributes:
        source: the text that names the source.
        entries: the number of its clips.
        entries_hash: a hash of their ids and texts: other clips may not continue this folder.
        tokenizer: the fingerprint of the frame tokenizer.
        codebook_size: the number of its ids.
        grid: (h, w) ids of a frame.
        fps: frames per second.
        size: side of the square frames, px.
        piece_seconds: longer clips are cut into pieces of this length.
        shard_clips: entries of a shard.
        complete: all shards are there. Only then are the numbers below set.
        clips / frames: how many clips and frames the folder holds.
        left_out: {"id": .., "reason": ..} for every clip that could not be used.
        made: versions, machine and date.
    """

    source: str
    entries: int
    entries_hash: str
    tokenizer: str
    codebook_size: int
    grid: tuple[int, int]
    fps: float
    size: int
    piece_seconds: float
    shard_clips: int
    complete: bool = False
    clips: int = 0
    frames: int = 0
    left_out: tuple[Any, ...] = ()
    made: Any = None
    format: str = FORMAT

    def write(self, folder: Path) -> None:
        """Write manifest.json."""
        write_text(folder / MANIFEST, json.dumps(to_json(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read manifest.json.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is something else, or of another version.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(f"no {path}; make one with `fv tokenize SOURCE --out {folder}`")
        try:
            manifest = from_json(cls, json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no manifest of tokens ({error})") from error
        if manifest.format != FORMAT:
            raise ValueError(f"{path} has format {manifest.format!r}, want {FORMAT!r}")
        return manifest


def tokens_at(name: str) -> Path | None:
    """The folder of tokens of this name, fetched if it lies in a store; None if it is none.

    Raises:
        OSError: a store does not give it; see `buckets.fetch`.
    """
    if is_bucket(name) and parse_source(name)[2]:
        return None  # options: clips
    folder = Path(local(name))
    return folder if (folder / MANIFEST).is_file() else None


def shard_path(folder: Path, number: int) -> Path:
    """File of a shard."""
    return folder / f"{number:05d}.array_record"


def clips_of(shard: Path) -> list[dict[str, Any]]:
    """What a shard says of its clips:

    id      of the clip, or of a piece of it
    whole   id of the clip that it is a piece of
    text    of the clip
    frames  how many
    """
    return json.loads(_record(shard, 0))


def ids_of(shard: Path) -> Iterator[UInt16[np.ndarray, " ids"]]:
    """All ids of each clip of a shard."""
    for number in range(len(clips_of(shard))):
        yield np.frombuffer(_record(shard, 1 + number), "<u2")


def _record(shard: Path, number: int) -> bytes:
    """One record; no file stays open, of which large sets have thousands."""
    reader = ArrayRecordReader(str(shard), "readahead_buffer_size:0", file_reader_buffer_size=32768)
    try:
        (record,) = reader.read([number])
        return record
    finally:
        reader.close()


class TokenFolder(Sequence):
    """The clips of a folder of tokens, at random.

    Args:
        folder: written by `fv tokenize`.

    Raises:
        FileNotFoundError: no such folder, or a shard is missing.
        ValueError: not finished, or damaged.
    """

    def __init__(self, folder: Path):
        self.folder, self.manifest = folder, Manifest.read(folder)
        if not self.manifest.complete:
            raise ValueError(f"{folder} is not finished; the same `fv tokenize` continues it")
        shards = -(-self.manifest.entries // self.manifest.shard_clips)
        paths = [shard_path(folder, number) for number in range(shards)]
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing; copy the whole folder again")
        try:
            self.clips: list[dict[str, Any]] = []
            self._places: list[tuple[Path, int]] = []  # shard, and number of the record in it
            for path in paths:
                about = clips_of(path)
                self._places += [(path, 1 + number) for number in range(len(about))]
                self.clips += about
        except (RuntimeError, ValueError, TypeError) as error:
            raise ValueError(f"a shard of {folder} is damaged ({error})") from error
        if len(self.clips) != self.manifest.clips:
            raise ValueError(
                f"{folder} holds {len(self.clips)} clips, its manifest says {self.manifest.clips}"
            )

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[str, UInt16[np.ndarray, "F P"]]:
        """Text and ids of a clip."""
        about = self.clips[operator.index(index)]
        ids = np.frombuffer(_record(*self._places[index]), "<u2")
        return about["text"], ids.reshape(about["frames"], -1)

    def draw(self, index: int, rng: np.random.Generator) -> tuple[str, UInt16[np.ndarray, "F P"]]:
        """Text and ids of a clip; nothing about a cached clip is random."""
        del rng
        return self[index]

    @property
    def texts(self) -> list[str]:
        """The text of every clip."""
        return [clip["text"] for clip in self.clips]


class Stretch:
    """Some consecutive frames of one clip of a folder, as its only clip."""

    def __init__(self, tokens: TokenFolder, index: int, first: int, stop: int):
        self.tokens, self._index, self._frames = tokens, index, slice(first, stop)

    def __len__(self) -> int:
        return 1

    def draw(self, index: int, rng: np.random.Generator) -> tuple[str, UInt16[np.ndarray, "F P"]]:
        """Text and ids."""
        del index, rng
        text, ids = self.tokens[self._index]
        return text, ids[self._frames]

    @property
    def texts(self) -> list[str]:
        """The clip's."""
        return [self.tokens.clips[self._index]["text"]]


class Chosen:
    """Some of the clips of a folder, by number."""

    def __init__(self, tokens: TokenFolder, indices: Sequence[int]):
        self.tokens, self.indices = tokens, list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def draw(self, index: int, rng: np.random.Generator) -> tuple[str, UInt16[np.ndarray, "F P"]]:
        """Text and ids of a clip."""
        return self.tokens.draw(self.indices[index], rng)

    @property
    def texts(self) -> list[str]:
        """The text of every clip chosen."""
        return [self.tokens.clips[i]["text"] for i in self.indices]
