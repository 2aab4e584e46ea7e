"""Processes that a job forks without exec (`os.fork`, `multiprocessing`).

Such a child has the worker's stack below it. When the job's function ends in it too, by return or by
exception, it must leave there: it would else go on as a second worker on the same socket.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn, Optional

from pool_template.jobs import errors
from pool_template.process import at_fork, signals, streams

#: Whether this process was forked by a job.
is_child = False


def watch() -> None:
    """Called once in a worker, so that its children know what they are."""
    at_fork.become_worker(_HOOKS)


def watch_no_more() -> None:
    """Takes `watch` back."""
    at_fork.become_worker(None)


def end_child(error: Optional[BaseException]) -> NoReturn:
    """Leaves as a program does that ends with this exception, or with none."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if error.code is not None and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
    elif error is not None:
        print(errors.traceback_of(error), end="", file=sys.stderr)
        code = 1
    streams.flush()
    os._exit(code & 0xFF)


def _mark() -> None:
    global is_child
    is_child = True
    signals.set_up_child_of_job()
    signals.let_through()


#: Made once, not in each worker.
_HOOKS = (signals.hold_back, signals.let_through, _mark)
