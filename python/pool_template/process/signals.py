"""Who answers which signal, in the template and in its workers.

Handlers that do nothing stand where "ignore" would: programs that a job starts inherit an ignored
signal, but not a handler.
"""

from __future__ import annotations

import os
import signal
from typing import Any, Callable

try:
    # The public ones make members of enumerations, which costs a worker more than the rest of this module.
    import _signal as quick
except ImportError:
    quick = signal  # type: ignore[assignment]

_OF_THE_WORKER = (signal.SIGTERM, signal.SIGINT)


def pass_over(_signum: int, _frame: Any) -> None:
    """Handles a signal by doing nothing."""


def set_up_template(on_terminate: Callable[[int, Any], Any]) -> int:
    """SIGCHLD wakes, SIGTERM stops, and the terminal's Ctrl-C is the supervisor's to judge.

    Returns the descriptor that becomes readable with each signal.
    """
    wake, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    # Not by the public ones, which gevent replaces: it would write to this pipe in the workers, too.
    quick.set_wakeup_fd(write, warn_on_full_buffer=False)
    quick.signal(quick.SIGCHLD, pass_over)
    quick.signal(quick.SIGINT, pass_over)
    quick.signal(quick.SIGTERM, on_terminate)
    return wake


def set_up_worker(on_terminate: Callable[[int, Any], Any]) -> None:
    """The first SIGTERM is `on_terminate`'s, SIGCHLD is the job's own business, Ctrl-C nobody's."""
    _set_up(pass_over, on_terminate)


def set_up_plain_worker() -> None:
    """SIGTERM ends it, and SIGINT is ignored, also in the programs that jobs start."""
    _set_up(quick.SIG_IGN, quick.SIG_DFL)


def _set_up(on_interrupt: Any, on_terminate: Any) -> None:
    write = quick.set_wakeup_fd(-1)
    if write >= 0:
        os.close(write)
    # Only what is the template's own: gevent has a handler of which Python knows nothing.
    if quick.getsignal(quick.SIGCHLD) is pass_over:
        quick.signal(quick.SIGCHLD, quick.SIG_DFL)
    quick.signal(quick.SIGINT, on_interrupt)
    quick.signal(quick.SIGTERM, on_terminate)
    quick.pthread_sigmask(quick.SIG_SETMASK, ())


def hold_back() -> None:
    """Before a job forks: a signal for the child that comes too early must not meet the worker's handler."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_WORKER)


def let_through() -> None:
    """After the fork, on both sides."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_THE_WORKER)


def set_up_child_of_job() -> None:
    """A process that a job forked is its own: `Process.terminate()` must end it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
