"""What a job can ask of the pool that runs it.

    from pool_job import Retry, current_job

    def fetch(url):
        if busy(url):
            raise Retry(after=30, reason="the site is busy")

One file, standard library only. Inside a pool it is always there. To import tasks elsewhere (in tests, in producers), install
`poolhouse`, which has it, or copy this file to where Python finds it.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

__all__ = ["Call", "Job", "JobTimeout", "Retry", "batch", "current_job", "current_jobs"]


class Job(NamedTuple):
    """The job that is running."""

    #: Its id.
    id: str
    #: The queue that it came from.
    queue: str
    #: Its task, as its producer named it.
    task: str
    #: 1 in its first run.
    attempt: int
    #: Longest run in seconds; None: no limit.
    timeout: Optional[float]

    def progress(self, fraction: Optional[float] = None, message: str = "") -> None:
        """Tells how far the job is, for `pool wait` and other readers: from 0 to 1 (None: it does not know), and what it does.

        Of many calls in a row some are left out. A broker without a place for it keeps nothing. In a batch task
        `current_jobs()` has a job for each.
        """
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"progress: the fraction is {fraction!r}; expected a number from 0 to 1, or None")
        if not isinstance(message, str):
            raise TypeError(f"progress: the message is {message!r}; expected a text")
        if _tell_progress is not None:
            _tell_progress(self.id, None if fraction is None else float(fraction), message)


class Call(NamedTuple):
    """How a job that another program wrote calls its function: what a batch task gets for each of them."""

    #: Its positional arguments.
    args: Tuple[Any, ...]
    #: Its keyword arguments.
    kwargs: Dict[str, Any]


class Retry(Exception):
    """Raise it to be run again. It uses up one of the job's retries, as a failure does.

    `after` is the wait, in seconds or as a `timedelta`; None leaves it to the pool's backoff. `reason` is for
    the log.
    """

    def __init__(self, after: Any = None, reason: str = "") -> None:
        seconds = after.total_seconds() if hasattr(after, "total_seconds") else after
        if seconds is not None and not 0 <= seconds < float("inf"):
            raise ValueError(f"Retry: `after` is {after!r}; expected seconds, 0 or more")
        super().__init__(reason or "the job asked to be run again")
        self.after_s: Optional[float] = None if seconds is None else float(seconds)
        self.reason = reason


class JobTimeout(Exception):
    """Raised inside a job that runs longer than its timeout.

    Clean up and let it pass: a job that goes on is killed together with its worker after `kill_grace`.
    """


def current_job() -> Optional[Job]:
    """The job that is running; None outside a job."""
    return _read_current() if _read_current is not None else None


def current_jobs() -> List[Job]:
    """The jobs of the call that is running: in a batch task all of its batch, in the order of its arguments."""
    return _read_batch() if _read_batch is not None else []


class _Batch(NamedTuple):
    """How a batch task wants its jobs gathered."""

    size: int
    linger_ms: int


#: Batch tasks by their dotted names.
_batches: Dict[str, _Batch] = {}

_TIME = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")
_MS = {"ms": 1, "s": 1000, "m": 60_000}


def batch(size: int, linger: Any = "50ms") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Marks a function that takes many jobs in one call.

        @batch(size=100, linger="50ms")
        def insert(jobs):               # the arguments of each job, as a list
            write([...])
            return [None for _ in jobs] # an answer for each, in their order

    It is called with up to `size` jobs, or with what came within `linger` (a text such as "50ms", "1s"; seconds; a
    `timedelta`) since the first one. Producers enqueue single jobs. An answer is a result, or an exception: it
    fails that job; a `Retry` runs it again. What the function itself raises fails the whole batch.

    Jobs that another program wrote come as a list of `Call`, and its own `Retry` runs them again.
    """
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"batch: `size` is {size!r}; expected a whole number, 1 or more")
    how = _Batch(size, _linger_ms(linger))

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        function.__pool_batch__ = how  # type: ignore[attr-defined]
        _batches[f"{function.__module__}.{function.__qualname__}"] = how
        return function

    return mark


def _linger_ms(linger: Any) -> int:
    if isinstance(linger, str):
        match = _TIME.fullmatch(linger.strip())
        ms = float(match[1]) * _MS[match[2]] if match else -1.0
    else:
        ms = float(linger.total_seconds() if hasattr(linger, "total_seconds") else linger) * 1000
    if not 0 <= ms < 2**32:
        raise ValueError(f'batch: `linger` is {linger!r}; expected a time such as "50ms", or seconds')
    return round(ms)


#: Set by the worker.
_read_batch: Optional[Callable[[], List[Job]]] = None
#: Set by the worker.
_tell_progress: Optional[Callable[[str, Optional[float], str], None]] = None
#: Set by the worker.
_read_current: Optional[Callable[[], Optional[Job]]] = None
