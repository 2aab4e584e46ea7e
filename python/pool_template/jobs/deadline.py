"""Interrupts a job at its timeout: SIGALRM raises an exception wherever the job is.

A coroutine is canceled instead, in the way of its event loop: what a signal handler raises inside the loop
itself, the loop may log and forget. Should the loop not get round to it, because the job blocks it, a
second alarm raises after all.
"""

from __future__ import annotations

import signal
import time
from typing import Any, Callable, Optional

from pool_template.process.signals import quick

_NS_PER_MS = 1_000_000
#: From the cancellation of a coroutine to the second alarm; well below the usual `kill_grace`.
_CANCELLATION_S = 1.0


class Deadline:
    """The deadline of one job after the other. A job without one may use SIGALRM for itself."""

    def __init__(self, exception: Callable[[int], BaseException]) -> None:
        #: Makes what is raised, of the timeout in milliseconds.
        self._exception = exception
        #: When the running job must have ended, in nanoseconds of the monotonic clock; 0: no deadline.
        self._at_ns = 0
        self._timeout_ms = 0
        self._timer_may_run = False
        #: Whether the running job was interrupted.
        self.struck = False
        self._cancel: Optional[Callable[[], Any]] = None
        self._on_alarm = self._strike  # one object, to be recognised

    def prepare(self) -> None:
        """Takes SIGALRM ahead of the first job."""
        quick.signal(quick.SIGALRM, self._on_alarm)

    def set(self, timeout_ms: int, started_ns: int) -> None:
        """For a job that began at `started_ns`; 0: it has all the time it wants."""
        self.struck = False
        if timeout_ms:
            if quick.getsignal(quick.SIGALRM) is not self._on_alarm:  # at first, or a job has set its own
                quick.signal(signal.SIGALRM, self._on_alarm)
            self._timeout_ms = timeout_ms
            self._timer_may_run = True
            self._at_ns = started_ns + timeout_ms * _NS_PER_MS
            quick.setitimer(quick.ITIMER_REAL, timeout_ms / 1000)
        elif self._timer_may_run:
            self._timer_may_run = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def exception(self) -> BaseException:
        """What a job that was struck gets to see."""
        return self._exception(self._timeout_ms)

    def cancel_by(self, cancel: Optional[Callable[[], Any]]) -> None:
        """How to interrupt what runs from now on; None: by raising."""
        self._cancel = cancel

    def clear(self) -> None:
        """The job has ended. The timer is left running: stopping it would be a system call a job, and an
        alarm without a deadline does nothing."""
        self._at_ns = 0

    def _strike(self, *_signal: Any) -> None:
        if not self._at_ns:
            return
        left_ns = self._at_ns - time.monotonic_ns()
        if left_ns > 0:  # an alarm from an earlier job
            signal.setitimer(signal.ITIMER_REAL, left_ns / 1e9)
            return
        self.struck = True
        cancel, self._cancel = self._cancel, None
        if cancel is not None:
            cancel()
            signal.setitimer(signal.ITIMER_REAL, _CANCELLATION_S)
            return
        self._at_ns = 0
        raise self.exception()
