"""Tasks of django-tasks-rq of which the log alone is told.

Its job class tells of the start of a task by a signal, and its success callback of the end. For that it makes a `TaskResult`
each time, which takes six questions to Redis and two clients of it. Its own log listens, and wants the id, the path and the
state alone. If nobody else does, the task is called without the job class, and the log is told here. A failure goes the
usual way, and so does a task that wants its context.

Source: django-tasks-rq 0.12.0, `backend.py`, `Job`, `success_callback`; django-tasks 0.12.0, `signals.py`.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any, Callable, Optional

#: Those that were read.
_VERSIONS = ("0.12.0",)
_MODULE = "django_tasks_rq.backend"
_SUCCESS, _FAILURE = f"{_MODULE}.success_callback".encode(), f"{_MODULE}.failed_callback".encode()


class DjangoTasks:
    """Which jobs are such tasks, and what is done for them in place of the job class."""

    def __init__(self, job_class: type) -> None:
        self._tasks: Any = None
        backend: Any = sys.modules.get(_MODULE)
        if backend is None or job_class is not backend.Job:
            return
        version = getattr(sys.modules["django_tasks_rq"], "__version__", "")
        signals: Any = sys.modules.get("django_tasks.signals")
        if version not in _VERSIONS or signals is None:
            return
        self._tasks = backend.TASK_CLASSES
        self._states = backend.TaskResultStatus
        self._log_start, self._log_end = signals.log_task_started, signals.log_task_finished
        self._heard = ((backend.task_started, self._log_start), (backend.task_finished, self._log_end))

    def has(self, fields: dict[bytes, bytes]) -> bool:
        """Whether the log alone is told of a job with this hash, if its function is a task."""
        return (
            self._tasks is not None
            and fields.get(b"success_callback_name") == _SUCCESS
            and fields.get(b"failure_callback_name") == _FAILURE
            and b"meta" in fields
            and all(_hears_alone(*heard) for heard in self._heard)
        )

    def call(self, function: Any) -> Optional[Callable[..., Any]]:
        """How its function is called. None: by the job class."""
        if isinstance(function, self._tasks) and not function.takes_context:
            return function.call  # type: ignore[no-any-return]
        return None

    def log_start(self, job_id: str, task: Any) -> None:
        """Has Django's own log say that a task starts."""
        self._log_start(None, SimpleNamespace(id=job_id, task=task, status=self._states.RUNNING))

    def log_end(self, job_id: str, task: Any) -> None:
        """Has Django's own log say that a task succeeded."""
        self._log_end(None, SimpleNamespace(id=job_id, task=task, status=self._states.SUCCESSFUL))


def _hears_alone(signal: Any, receiver: Callable[..., Any]) -> bool:
    """Whether this function is all that is connected. Django keeps a weak reference to each."""
    receivers = signal.receivers
    return len(receivers) == 1 and receivers[0][1]() is receiver
