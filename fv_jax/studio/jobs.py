"""One thread that has JAX, jobs in turn, and what each job has told so far.

A job is an iterator: one `next` is one turn. A video is one turn, a stream's turn is one key frame
and what lies before it, so streams and videos go on side by side. Listeners read what a job has
told, each at its own pace, and nobody waits for them.
"""

import abc
import asyncio
import contextlib
import json
import logging
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from typing import Any

WAITING = 64  # jobs that may wait for their turn, resting streams with them
KEPT = 32  # jobs that have ended and may still be asked about
_ERRANDS = 16  # that may wait beside them
_ALIVE = 10.0  # seconds between signs of life to a listener who has nothing to hear
# What stands in the way of one request; anything else is a fault of the program, and is logged.
_OF_THE_REQUEST = (ValueError, OSError, MemoryError)
_log = logging.getLogger(__name__)


class Full(Exception):
    """No more jobs are taken for now."""


class Canceled(Exception):
    """Nobody wants the job any more; raised inside it."""


class Job(abc.ABC):
    """Something that takes turns on the thread, and tells how it goes.

    Attributes:
        id: cannot be guessed.
        state: "waiting", "running", "done", "failed" or "canceled".
        patience: seconds without a listener, once there was one, until it is canceled.
        remembers: how many of the last events are kept; None for all.
    """

    patience: float = 4.0
    remembers: int | None = None

    def __init__(self) -> None:
        self.id, self.state = secrets.token_urlsafe(12), "waiting"
        self._told: deque[str] = deque(maxlen=self.remembers)
        self._count = self.heard = 0
        self._lock = threading.Lock()
        self._listeners: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._alone_since: float | None = None
        self._canceled = False

    @abc.abstractmethod
    def turns(self) -> Iterator[None]:
        """The work, a turn for each `next`; runs on the thread."""

    @property
    def ended(self) -> bool:
        """Whether there will be no more turns."""
        return self.state in ("done", "failed", "canceled")

    @property
    def ready(self) -> bool:
        """Whether it wants another turn now."""
        return True

    @property
    def unwanted(self) -> bool:
        """Whether it was canceled, or all who listened have been gone for too long."""
        since = self._alone_since
        return self._canceled or (since is not None and time.monotonic() - since > self.patience)

    def cancel(self) -> None:
        """End it as soon as that can be."""
        self._canceled = True

    def check(self) -> None:
        """Raises `Canceled` if nobody wants the job any more."""
        if self.unwanted:
            raise Canceled

    def tell(self, event: str, **data: Any) -> None:
        """Tell all listeners, those to come, too."""
        text = json.dumps(data, separators=(",", ":"))
        with self._lock:
            self._told.append(f"id: {self._count}\nevent: {event}\ndata: {text}\n\n")
            self._count += 1
        self._wake_listeners()

    def end(self, state: str, **data: Any) -> None:
        """Tell that it is over, as an event of the state's name."""
        self.tell(state, **data)
        self.state = state
        self._wake_listeners()

    async def events(self, after: int = -1) -> AsyncIterator[str]:
        """All that was and will be told, as server-sent events, from number `after` + 1 on."""
        news, number = asyncio.Event(), max(after + 1, 0)
        self._listeners[news] = asyncio.get_running_loop()
        self._alone_since = None
        try:
            while True:
                news.clear()
                ended = self.ended  # nothing is told afterwards
                while (text := self._event(number)) is not None:
                    number = int(text[4 : text.index("\n")]) + 1
                    yield text
                    self.heard = max(self.heard, number)
                if ended:
                    return
                try:
                    await asyncio.wait_for(news.wait(), _ALIVE)
                except TimeoutError:
                    yield ":\n\n"
        finally:
            del self._listeners[news]
            if not self._listeners:
                self._alone_since = time.monotonic()

    def _event(self, number: int) -> str | None:
        """That one, or the oldest after it that is kept; None where there is none yet."""
        with self._lock:
            first = self._count - len(self._told)
            place = max(number - first, 0)
            return self._told[place] if place < len(self._told) else None

    def _wake_listeners(self) -> None:
        for news, loop in [*self._listeners.items()]:
            with contextlib.suppress(RuntimeError):  # the server ends
                loop.call_soon_threadsafe(news.set)


class _Errand(Job):
    """A short thing that only the thread may do, for one who waits for it."""

    def __init__(self, function: Callable[[], Any], result: Future):
        super().__init__()
        self._function, self._result = function, result

    def turns(self) -> Iterator[None]:
        """One turn."""
        try:
            self._result.set_result(self._function())
        except Exception as error:  # whoever waits has it
            self._result.set_exception(error)
        return
        yield


class Jobs:
    """The thread, who waits for it, and jobs by their id.

    Args:
        waiting: jobs that may wait at a time.
        kept: ended jobs that are kept; the oldest goes first.
    """

    def __init__(self, waiting: int = WAITING, kept: int = KEPT):
        self._most, self._kept = waiting, kept
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._queue: deque[tuple[Job, Iterator[None]]] = deque()
        self._resting: list[tuple[Job, Iterator[None]]] = []
        self._change, self._closed = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="fv studio", daemon=True)
        self._thread.start()

    def add(self, job: Job) -> Job:
        """Put a job at the end of the queue.

        Raises:
            Full: too many wait.
        """
        with self._change:
            if self._closed or len(self._queue) + len(self._resting) >= self._most:
                raise Full
            ended = [id_ for id_, known in self._jobs.items() if known.ended]
            for id_ in ended[: max(0, len(ended) - self._kept)]:
                del self._jobs[id_]
            self._jobs[job.id] = job
            job.tell("waiting", ahead=len(self._queue))
            self._queue.append((job, job.turns()))
            self._change.notify()
        return job

    def do(self, function: Callable[[], Any]) -> Future:
        """What a function gives that is called on the thread, before the next turn.

        Raises:
            Full: too many wait.
        """
        errand = _Errand(function, Future())
        with self._change:
            if self._closed or len(self._queue) >= self._most + _ERRANDS:
                raise Full
            self._queue.appendleft((errand, errand.turns()))
            self._change.notify()
        return errand._result

    def get(self, id_: str) -> Job | None:
        """A job that is kept."""
        return self._jobs.get(id_)

    def wake(self) -> None:
        """See again which jobs are ready."""
        with self._change:
            self._change.notify()

    def close(self) -> None:
        """Cancel everything and wait for the thread."""
        with self._change:
            self._closed = True
            for job in self._jobs.values():
                job.cancel()
            self._change.notify()
        self._thread.join(timeout=10)

    @property
    def counts(self) -> dict[str, int]:
        """How many jobs wait, rest and are kept."""
        numbers = len(self._queue), len(self._resting), len(self._jobs)
        return dict(zip(("waiting", "resting", "kept"), numbers))

    def _run(self) -> None:
        while (found := self._next()) is not None:
            job, turns = found
            try:
                job.check()
                job.state = "running"
                next(turns)
            except StopIteration:
                job.end("done")
            except Canceled:
                job.end("canceled")
            except _OF_THE_REQUEST as error:
                job.end("failed", error=" ".join(str(error).split()))
            except Exception as error:  # of one job: the thread goes on
                _log.exception("a job failed")
                job.end("failed", error=f"an internal fault: {type(error).__name__}")
            else:
                self._resting.append(found)

    def _next(self) -> tuple[Job, Iterator[None]] | None:
        """The next job that wants a turn, or is to be ended; None when all is over."""
        with self._change:
            while not self._closed:
                for found in [*self._resting]:
                    if found[0].ready or found[0].unwanted:
                        self._resting.remove(found)
                        self._queue.append(found)
                if self._queue:
                    return self._queue.popleft()
                self._change.wait(0.5)
        return None
