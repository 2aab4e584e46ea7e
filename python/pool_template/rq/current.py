"""`get_current_job()` of a plain job: RQ's job object, built when the job asks for it.

Building it takes a round trip to Redis and more time than many a job does.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Callable, Optional

import rq.job


class Pending:
    """The plain job that runs, as far as somebody asked for it; one of these a worker."""

    def __init__(self, fetch: Callable[[], Any]) -> None:
        #: How the job object is made.
        self.fetch = fetch
        self._fields: Any = None
        self.is_running = False
        #: The job object; None until somebody asked.
        self.job: Any = None

    def get(self) -> Any:
        """The job object; None when no job runs."""
        if self.job is None and self.is_running:
            self.job = self.fetch()
            self._fields = _fields_of(self.job)
        return self.job

    def has_changed(self) -> bool:
        """Whether the job changed something of itself that RQ keeps when it ends. (What it saved of `meta` is kept
        already, and what it did not save RQ forgets, too.)"""
        return self.job is not None and _fields_of(self.job) != self._fields

    def end(self) -> None:
        """The job has ended."""
        self.is_running = False
        self.job = self._fields = None


class CurrentJob:
    """Stands in the place of the context variable in which RQ 3 keeps its current job."""

    def __init__(self) -> None:
        self._variable: ContextVar[Any] = ContextVar("current_job", default=None)

    def get(self) -> Any:
        value = self._variable.get()
        return value.get() if type(value) is Pending else value

    def set(self, value: Any) -> Any:
        return self._variable.set(value)

    def reset(self, token: Any) -> None:
        self._variable.reset(token)


class JobStack:
    """Stands in the place of the stack in which RQ 2 keeps its current job."""

    def __init__(self) -> None:
        self._current = CurrentJob()
        self._tokens: list[Any] = []

    @property
    def top(self) -> Any:
        return self._current.get()

    def set(self, value: Any) -> None:
        self._current.set(value)

    def push(self, value: Any) -> None:
        self._tokens.append(self._current.set(value))

    def pop(self) -> Any:
        value = self._current.get()
        self._current.reset(self._tokens.pop())
        return value


def install(pending: Pending) -> None:
    """Lets `get_current_job()` find the plain job that runs."""
    if hasattr(rq.job, "_current_job"):
        rq.job._current_job = CurrentJob()
        rq.job._current_job.set(pending)
    else:
        rq.job._job_stack = JobStack()
        rq.job._job_stack.set(pending)


def _fields_of(job: Any) -> Optional[dict[str, Any]]:
    try:
        return job.to_dict(include_meta=False, include_result=False)
    except Exception:
        return None  # such as arguments that can't be serialized any more: RQ's own code shall say so
