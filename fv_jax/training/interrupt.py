"""Stopping a run so that nothing is lost: Ctrl-C, and SIGTERM, by which machines are taken away.

The step under way ends and is saved. Several processes must stop after the same step: then jax's
preemption service tells all of them which, whoever was told first.
"""

import os
import signal
from collections.abc import Callable

import jax
from jax.experimental import multihost_utils


class Interrupted(KeyboardInterrupt):
    """Ctrl-C; the run's state has been saved."""

    exit_code = 130


class Terminated(Interrupted):
    """SIGTERM; the run's state has been saved, and nothing went wrong."""

    exit_code = 0


class _Now(BaseException):
    """Leave what is not training; not an error that anybody may catch."""


class StopSignal:
    """Turns Ctrl-C and SIGTERM into an answer to `stops_after(step)`."""

    def __init__(self) -> None:
        self._several = jax.process_count() > 1
        self._signal: int | None = None
        self._leave = False

    def __enter__(self) -> "StopSignal":
        # SIGTERM of several processes is jax's own: a handler here would take it away from it.
        numbers = (signal.SIGINT,) if self._several else (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stops_after(self, step: int) -> bool:
        """Whether to stop after this step. With several processes all must ask at every step."""
        if self._several:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._signal is not None

    @property
    def received(self) -> bool:
        """Whether a signal has come; of several processes only `stops_after` can tell."""
        return self._signal is not None

    def run_unless_stopped(self, block: Callable[[], None]) -> None:
        """Run what can wait, such as drawing samples; a signal ends it at once."""
        try:
            try:
                self._leave = True
                if self._signal is None:
                    block()
            finally:
                self._leave = False
        except _Now:
            self._leave = False

    def stopped_at(self, step: int) -> Interrupted:
        """What to raise after saving."""
        kind = Interrupted if self._signal == signal.SIGINT else Terminated
        return kind(f"stopped at step {step}; the same command continues it")

    def _handle(self, number: int, _: object) -> None:
        if self._several:
            os.kill(os.getpid(), signal.SIGTERM)
            return
        self._signal = number
        signal.signal(number, signal.default_int_handler)  # a second one stops at once
        if self._leave:
            raise _Now
