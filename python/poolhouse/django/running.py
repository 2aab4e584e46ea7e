"""A task while it runs in a worker: its context, Django's signals, and its database connections."""

from __future__ import annotations

import os
import socket
import traceback
from functools import wraps
from typing import Any, Callable, Dict, Sequence

from django.db import close_old_connections
from django.utils import timezone

import pool_job
from poolhouse.django.results import call_of
from poolhouse.django.tasks import (
    Task,
    TaskContext,
    TaskError,
    TaskResult,
    TaskResultStatus,
    normalize_json,
    signals,
)


class PoolTask(Task):  # type: ignore[misc]
    """A task of Django that workers call by its name: `module.function`."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _run(self, args, kwargs)

    def __pool_task__(self) -> Callable[..., Any]:
        """What a worker calls: see `jobs/names.py` of the template."""

        @wraps(self.func)
        def run(*args: Any, **kwargs: Any) -> Any:
            return _run(self, args, kwargs)

        return run


def _run(task: Any, args: Sequence[Any], kwargs: Dict[str, Any]) -> Any:
    """Runs a task as one job."""
    args, kwargs = call_of(args, kwargs)
    job = pool_job.current_job()
    now = timezone.now()
    result = TaskResult(
        task=task,
        id=job.id if job is not None else "",
        status=TaskResultStatus.RUNNING,
        enqueued_at=None,
        started_at=now,
        finished_at=None,
        last_attempted_at=now,
        args=args,
        kwargs=kwargs,
        backend=task.backend,
        errors=[],
        worker_ids=[f"{socket.gethostname()}:{os.getpid()}"] * (job.attempt if job is not None else 1),
    )
    sender = type(task.get_backend())
    signals.task_started.send(sender=sender, task_result=result)
    close_old_connections()
    try:
        context = [TaskContext(task_result=result)] if task.takes_context else []
        value = normalize_json(task.call(*context, *args, **kwargs))
    except BaseException as error:
        _end(result, TaskResultStatus.FAILED)
        kind = type(error)
        text = "".join(traceback.format_exception(kind, error, error.__traceback__))
        path = f"{kind.__module__}.{kind.__qualname__}"
        result.errors.append(TaskError(exception_class_path=path, traceback=text))
        signals.task_finished.send(sender=sender, task_result=result)
        raise
    else:
        _end(result, TaskResultStatus.SUCCESSFUL)
        object.__setattr__(result, "_return_value", value)
        signals.task_finished.send(sender=sender, task_result=result)
        return value
    finally:
        close_old_connections()


def _end(result: Any, status: Any) -> None:
    object.__setattr__(result, "status", status)
    object.__setattr__(result, "finished_at", timezone.now())
