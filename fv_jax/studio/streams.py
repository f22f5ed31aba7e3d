"""A stream as a job: a key frame and what lies before it are a turn, and it rests between turns.

It is never far ahead of who listens, nor of the time at which its frames are shown, so one that
nobody hears costs nothing.
"""

import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fv_jax.generation.stream import Stream
from fv_jax.studio.jobs import Job
from fv_jax.studio.videos import png

_UNHEARD = 48  # frames that are made beyond those that were heard
_STATM = Path("/proc/self/statm")
_AHEAD = 3.0  # seconds of frames before they are shown


class StreamJob(Job):
    """Frames without end, until it is canceled or nobody listens."""

    patience = 30.0
    remembers = 128

    def __init__(self, made: Stream):
        super().__init__()
        self._made, self._frames, self._paused = made, 0, False
        self._shown_before, self._since = 0.0, time.monotonic()
        self._alone_since = time.monotonic()  # nobody has listened yet

    def turns(self) -> Iterator[None]:
        """A turn goes on to the next key frame."""
        made = self._made
        self.tell("plan", prompt=made.prompt, seed=made.seed, fps=made.fps, size=made.frame_size)
        self._since = time.monotonic()
        while True:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of rounds: each frame says its own
                frame = next(made)
            self._frames += 1
            self.tell(
                "frame", index=frame.index, key_frame=frame.key_frame, round=frame.key_round,
                inherited=float(frame.inherited.mean()), png=png(frame.frame),
                state=made.state_bytes, resident=resident_bytes(),
            )  # fmt: skip
            if frame.key_frame:
                yield

    @property
    def ready(self) -> bool:
        """Whether frames are wanted now."""
        if self._paused:
            return False
        shown = self._shown_before + time.monotonic() - self._since
        unheard = self._count - self.heard
        return unheard < _UNHEARD and self._frames / self._made.fps < shown + _AHEAD

    def pause(self, paused: bool) -> None:
        """Rest, or go on."""
        now = time.monotonic()
        if not self._paused:
            self._shown_before += now - self._since
        self._paused, self._since = paused, now

    def saved(self) -> bytes:
        """The file that `Stream.load` and `fv generate --resume` go on from; on the thread."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "stream.safetensors"
            self._made.save(path)
            return path.read_bytes()

    def fork(self, prompt: str | None, seed: int | None) -> "StreamJob":
        """One that goes on from here on its own, with another prompt or seed if given; on the
        thread.
        """
        return StreamJob(self._made.fork(prompt=prompt, seed=seed))

    def describe(self) -> dict[str, Any]:
        """What is known of it."""
        return {"state": self.state, "frames": self._frames, "paused": self._paused}


def resident_bytes() -> int | None:
    """Memory of this process that is in RAM; None where the system does not tell as Linux does."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGESIZE")
