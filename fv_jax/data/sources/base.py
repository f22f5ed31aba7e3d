"""Sets of clips, each behind the same small interface: a length, and entries by number.

    clips/                                      a folder of videos (`folder.py`)
    ucf101:DIR,split=train,list=1               UCF-101 as unpacked (`ucf101.py`)
    kinetics600:DIR,split=val                   CSV and clip files (`kinetics.py`)
    bair:DIR,split=test,camera=image_main       TFRecords, or prepared by TFDS (`bair.py`)
    tfds:NAME,split=train,data_dir=DIR          any TFDS set of videos (`tfds.py`)
    shapes,split=train,count=1000               the procedural set (`shapes.py`)
    arcade:games=breakout+pong,split=train      Atari games that play by themselves (`arcade.py`)

`open_source` turns such a text into a `Source`. Nothing is decoded before an entry's `open`.

A new kind is a class and a line in `SOURCES`, or from outside `SOURCES.register("mine", Mine)`.
The class is called with `name=`, which is the whole text, `place=` if it has that parameter, and
the text's options: each other parameter of it is one, `int`, `float` or `str`.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from fv_jax.config.model import require_countable
from fv_jax.config.registry import Registry, choices
from fv_jax.files.buckets import is_bucket, local
from fv_jax.media.readers import Reader
from fv_jax.media.walk import of_left_out

UNTITLED = "video"  # the text of clips that come with none


@dataclasses.dataclass(frozen=True)
class Entry:
    """One clip of a source.

    Attributes:
        id: the same at every opening, different for every clip of a source.
        text: caption, or the class in words.
        open: gives the reader; raises `ClipError` where the clip cannot be used.
    """

    id: str
    text: str
    open: Callable[[], Reader]


@dataclasses.dataclass(frozen=True)
class Problem:
    """A clip that is left out, and why."""

    id: str
    reason: str


@runtime_checkable
class Source(Protocol):
    """A set of clips in a fixed order.

    Attributes:
        name: what `open_source` opens again.
        problems: what is wrong before any clip is opened, such as listed files that are missing.
        noise_free: pixels that do not change are exactly equal: no camera, no compression.
    """

    name: str
    problems: list[Problem]
    noise_free: bool

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Entry:
        """The clip of this number.

        Raises:
            IndexError: there is none.
        """
        ...


SOURCES = Registry(
    "kind of source",
    {
        "folder": "fv_jax.data.sources.folder:VideoFolder",
        "ucf101": "fv_jax.data.sources.ucf101:UCF101",
        "kinetics600": "fv_jax.data.sources.kinetics:Kinetics600",
        "bair": "fv_jax.data.sources.bair:BAIR",
        "tfds": "fv_jax.data.sources.tfds:TFDS",
        "shapes": "fv_jax.data.sources.shapes:Shapes",
        "arcade": "fv_jax.data.sources.arcade:Arcade",
    },
)


def kind_of_source(name: str) -> Callable[..., Source]:
    """The class of a kind.

    Raises:
        ValueError: there is no such kind, or a package that it needs is not installed.
    """
    try:
        return SOURCES[name]
    except ModuleNotFoundError as error:
        raise ValueError(f'{name} needs {error.name}: pip install "fv-jax[tfds]"') from error


def open_source(name: str) -> Source:
    """The source that a text such as `ucf101:DIR,split=train` names.

    Raises:
        FileNotFoundError: its folder or a file that it needs is missing.
        ValueError: no such kind or option, or nothing in it.
    """
    kind, place, options = parse(name)
    make = kind_of_source(kind)
    known = inspect.signature(make).parameters
    can = [option for option in known if option not in ("place", "name")]
    unknown = sorted(set(options) - set(can))
    if unknown:
        raise ValueError(f"{kind} has no option {unknown[0]!r}; {choices(unknown[0], can)}")
    values = {k: _converted(kind, known[k], v) for k, v in options.items()}
    if "place" in known:
        if not place:
            raise ValueError(f"{kind} needs a place, such as {kind}:PATH; got {name!r}")
        values["place"] = local(place)
    elif place:
        raise ValueError(f"{kind} takes no place, got {place!r}")
    source = make(name=name, **values)
    if not len(source):
        first: dict[str, str] = {}
        for problem in source.problems:
            first.setdefault(problem.reason, problem.id)
        why = "; ".join(f"{id}: {reason}" for reason, id in [*first.items()][:2])
        if not why and (left_out := left_out_of(source)):
            why = f"{of_left_out(left_out)}, such as {next(iter(left_out))}"
        raise ValueError(f"no clips in {name}" + (f" ({why})" if why else ""))
    return source


def left_out_of(source: Source) -> dict[str, str]:
    """Files and folders that are no clips of a source, and why, where it looks through folders."""
    return dict(getattr(source, "left_out", {}))


def parse(name: str) -> tuple[str, str, dict[str, str]]:
    """Kind, place and options of a source's text; a text without a kind is a folder's path.

    What exists under the whole text is a place, whatever commas and colons its name holds.

    Raises:
        ValueError: an option is given twice.
    """
    head, options = name, {}
    kind, _, option = name.partition(":")
    if kind in SOURCES and re.match(r"[a-z_]+=", option) and not _takes_place(kind):
        head = name = f"{kind},{option}"  # such as arcade:games=pong
    while not _exists(head) and (match := re.fullmatch(r"(.*),([a-z_]+)=([^,]*)", head, re.DOTALL)):
        head, option, value = match.groups()
        if option in options:
            raise ValueError(f"option {option} is given twice in {name!r}")
        options[option] = value
    kind, colon, place = head.partition(":")
    if kind in SOURCES and colon:
        return kind, place, options
    looks_like_a_kind = kind in SOURCES or (colon and re.fullmatch(r"[a-z0-9_]{2,}", kind))
    if looks_like_a_kind and not is_bucket(head) and not _is_there(head):
        return kind, place, options
    return "folder", head, options


def _takes_place(kind: str) -> bool:
    return "place" in inspect.signature(kind_of_source(kind)).parameters


def _exists(head: str) -> bool:
    """Whether a text, without its kind if it has one, is a path that is there."""
    kind, _, place = head.partition(":")
    return _is_there(head) or (kind in SOURCES and bool(place) and _is_there(place))


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # a text may be longer than any path
        return False


def _converted(kind: str, parameter: inspect.Parameter, text: str):
    if parameter.annotation in (int, float):
        name = f"{kind}'s option {parameter.name}"
        try:
            value = parameter.annotation(text)
        except ValueError as error:
            raise ValueError(f"{name} must be a number, got {text!r}") from error
        require_countable(name, value)
        return value
    return text
