"""A sign of life for work that has no parts to count."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

from tqdm import tqdm

from fv_jax.cli import STARTED

_DELAY = 1.5  # seconds from the program's start; what fails at once says only why
_LATER = 0.5  # at the least


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """A line on stderr that says what is done, and for how long, until it is done."""
    every = 1.0 if sys.stderr.isatty() else 10.0  # seconds
    done = threading.Event()

    def show() -> None:
        if done.wait(max(_LATER, STARTED + _DELAY - time.perf_counter())):
            return
        with tqdm(desc=what, bar_format="{desc}: {elapsed}", leave=False) as bar:
            while not done.wait(every):
                bar.refresh()

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
