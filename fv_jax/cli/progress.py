"""A sign of life for work that has no parts to count."""

import contextlib
import sys
import threading
from collections.abc import Iterator

from tqdm import tqdm


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """A line on stderr that says at once what is done, and then for how long, until it is done."""
    every = 1.0 if sys.stderr.isatty() else 10.0  # seconds
    done = threading.Event()
    with tqdm(desc=what, bar_format="{desc}: {elapsed}", leave=False) as bar:

        def tick() -> None:
            while not done.wait(every):
                bar.refresh()

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
