"""Looking through a source: how many clips, how long, how large, and what cannot be read."""

import dataclasses
from collections import Counter
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from fv_jax.array_types import Frames
from fv_jax.data.sources.base import Entry, Problem, Source, left_out_of
from fv_jax.media.readers import ClipError, Reader, fps_of
from fv_jax.media.video_file import STANDING_IN

_MOST_COMMON = 10  # texts that are counted


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a clip that could be read is.

    Attributes:
        index: its number in the source.
        frames: the number of frames.
        fps: frames per second.
        seconds: the length up to the end of the last frame.
        size: (Y, X) px.
        notes: what a person should know of how it is shown.
    """

    index: int
    frames: int
    fps: float
    seconds: float
    size: tuple[int, int]
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What was found in a source.

    Attributes:
        source: the source that was looked through.
        probed: the number of clips that were opened.
        decoded: every frame of them was decoded.
        facts: what each clip that could be read is.
        problems: what is wrong with the source, and with each clip that could not be read.
    """

    source: Source
    probed: int
    decoded: bool
    facts: list[Facts]
    problems: list[Problem]

    def report(self) -> dict:
        """Counts, totals and spreads of everything, and every problem, ready for JSON."""
        facts = self.facts
        texts = Counter(self.source[i].text for i in range(len(self.source)))
        sizes = Counter(f"{fact.size[1]}x{fact.size[0]}" for fact in facts)
        return {
            "source": self.source.name,
            "clips": len(self.source),
            "probed": self.probed,
            "readable": len(facts),
            "every_frame_decoded": self.decoded,
            "frames": _spread([fact.frames for fact in facts]),
            "seconds": _spread([fact.seconds for fact in facts]),
            "fps": _spread([fact.fps for fact in facts]),
            "common_fps": dict(Counter(f"{fact.fps:.4g}" for fact in facts).most_common()),
            "sizes": dict(sizes.most_common()),
            "texts": dict(texts.most_common(_MOST_COMMON)),
            "distinct_texts": len(texts),
            "longest_text_words": max((len(text.split()) for text in texts), default=0),
            "notes": dict(Counter(note for fact in facts for note in fact.notes).most_common()),
            "problems": [dataclasses.asdict(problem) for problem in self.problems],
            "left_out": left_out_of(self.source),
            "each": [self._about(fact) for fact in facts],
        }

    def _about(self, fact: Facts) -> dict:
        """What a list of clips says of one."""
        entry = self.source[fact.index]
        return {
            "id": entry.id, "frames": fact.frames, "seconds": fact.seconds,
            "width": fact.size[1], "height": fact.size[0], "text": entry.text,
            "notes": list(fact.notes),
        }  # fmt: skip

    def some(self, most: int) -> list[Facts]:
        """At most so many of the clips that could be read, evenly spaced."""
        return [self.facts[i] for i in _evenly(len(self.facts), most)]

    def shown(self, facts: list[Facts]) -> Iterator[tuple[str, str, Frames]]:
        """Name, text, and the first, middle and last frame of each of these clips."""
        for fact in facts:
            entry = self.source[fact.index]
            reader = entry.open()
            yield entry.id, entry.text, reader.frames(_three(reader))


def inspect(source: Source, *, probe: int = 0, decode: bool = False) -> Inspection:
    """Open the clips of a source, and decode the first, middle and last frame of each.

    Args:
        source: the source to look through.
        probe: the number of clips to open, evenly spaced; 0 for all.
        decode: decode every frame of them.
    """
    numbers = _evenly(len(source), probe)
    facts, problems = [], list(source.problems)
    for number in tqdm(numbers, desc="reading", unit="clip", leave=False):
        entry = source[number]
        try:
            facts.append(_read(number, entry, decode))
        except ClipError as error:
            problems.append(Problem(entry.id, str(error)))
    return Inspection(source, len(numbers), decode, facts, problems)


def _evenly(count: int, most: int) -> list[int]:
    """Numbers of at most `most` of `count` clips (0: all), the first and last among them."""
    if not most or most >= count:
        return list(range(count))
    return np.linspace(0, count - 1, most).round().astype(int).tolist()


def _read(number: int, entry: Entry, decode: bool) -> Facts:
    reader = entry.open()
    known = list(reader.notes)
    for _ in reader.each(range(len(reader.times)) if decode else _three(reader)):
        pass
    notes = list(reader.notes)
    if len(notes) > len(known):  # what showed itself on the way: damage, perhaps
        reader = entry.open()
        notes = [*reader.notes, *(note for note in notes if note != STANDING_IN)]
    fps, count = fps_of(reader), len(reader.times)
    seconds = float(reader.times[-1]) + 1 / fps
    return Facts(number, count, fps, seconds, reader.size, tuple(dict.fromkeys(notes)))


def _three(reader: Reader) -> list[int]:
    last = len(reader.times) - 1
    return [0, last // 2, last]


def _spread(values: list) -> dict[str, float]:
    if not values:
        return {}
    low, middle, high = min(values), float(np.median(values)), max(values)
    return {"total": sum(values), "min": low, "median": middle, "max": high}
