"""What a job can ask of the pool that runs it.

    from pool_job import Retry, current_job

    def fetch(url):
        if busy(url):
            raise Retry(after=30, reason="the site is busy")

One file, standard library only. Inside a pool it is always there; to import tasks elsewhere (in tests, in
producers), copy it to where Python finds it.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional

__all__ = ["Job", "JobTimeout", "Retry", "current_job"]


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


#: Set by the worker.
_read_current: Optional[Callable[[], Optional[Job]]] = None
