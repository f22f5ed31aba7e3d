"""What one call of the generator cost: seconds by stage, steps, tokens by kind."""

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any


class Stats:
    """Adds up over a call; `with stats("sample"):` times a stage."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._counts: Counter[str] = Counter(
            steps=0, fed=0, sampled=0, forced=0, drafted=0, accepted=0
        )

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[stage] += time.perf_counter() - start

    def count(self, **numbers: int) -> None:
        """Add to the counters."""
        self._counts.update(numbers)

    def summary(self, videos: int) -> dict[str, Any]:
        """Totals of the batch, as plain JSON values.

        `steps` are sequential sampler steps; rows that are decoded in groups take theirs one group
        after the other. Tokens of all rows: `fed` ran through the network (not those that it does
        without), of which `sampled` were not known before and `forced` were; `drafted` are guesses
        that were checked, `accepted` those that held.
        """
        seconds = {stage: round(value, 4) for stage, value in self._seconds.items()}
        return {"videos": videos, **self._counts, "seconds": seconds}
