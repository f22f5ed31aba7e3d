"""Things by name, each imported when it is first used."""

import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def choices(word: str, known: Iterable[str]) -> str:
    """What to say to a wrong word: the nearest right one if one is near, and which there are."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"{meant}there are: {', '.join(known) or 'none'}"


def require_known(what: str, word: str, known: Iterable[str]) -> None:
    """Raise `ValueError` unless a word is one of those that `what` may be."""
    if word not in (known := list(known)):
        raise ValueError(f"{what}: no {word!r}; {choices(word, known)}")


class Registry(Mapping[str, Any]):
    """A mapping from names to things, such as classes, that costs no import until one is used.

        SOURCES = Registry("source", {"folder": "fv_jax.data.sources.folder:VideoFolder"})
        SOURCES["folder"]                       # the class
        SOURCES.register("mine", MySource)      # from anywhere

    Args:
        what: what one thing is called in messages.
        things: each a thing itself, or `module:attribute`, where it is found.
    """

    def __init__(self, what: str, things: Mapping[str, Any]):
        self._what, self._things = what, dict(things)

    def register(self, name: str, thing: Any) -> None:
        """Add a thing, or `module:attribute`; a name that was there now means this one."""
        self._things[name] = thing

    def __getitem__(self, name: str) -> Any:
        """The thing.

        Raises:
            ValueError: there is none of this name; says which there are, and which is meant.
        """
        if name not in self._things:
            raise ValueError(f"no such {self._what} {name!r}; {choices(name, self)}")
        if isinstance(thing := self._things[name], str):
            module, attribute = thing.split(":")
            thing = self._things[name] = getattr(importlib.import_module(module), attribute)
        return thing

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)
