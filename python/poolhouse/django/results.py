"""A job as Django's task result."""

from __future__ import annotations

import builtins
import re
from datetime import datetime
from typing import Any, Dict, List, Optional, Sequence, Tuple

from django.conf import settings
from django.utils import timezone
from django.utils.module_loading import import_string

from poolhouse import payload
from poolhouse.django.tasks import Task, TaskError, TaskResult, TaskResultDoesNotExist, TaskResultStatus
from poolhouse.model import JobError, JobView, State

#: The key under which an object of keyword arguments has the positional ones: no name of an argument. Only for calls that
#: have both.
POSITIONAL = "*"
#: What is told of a worker of which no more is known than that it ran the task.
_SOME_WORKER = "pool"

_STATUS = {
    State.WAITING: TaskResultStatus.READY,
    State.BLOCKED: TaskResultStatus.READY,
    State.SCHEDULED: TaskResultStatus.READY,
    State.DEFERRED: TaskResultStatus.READY,
    State.RUNNING: TaskResultStatus.RUNNING,
    State.FINISHED: TaskResultStatus.SUCCESSFUL,
    State.DEAD: TaskResultStatus.FAILED,
    State.CANCELED: TaskResultStatus.FAILED,
}


def arguments_of(args: Sequence[Any], kwargs: Dict[str, Any], task: str) -> bytes:
    """The arguments of a job."""
    if args and kwargs:
        return payload.encode({POSITIONAL: args, **kwargs}, f"the arguments of `{task}`")
    return payload.arguments(args, kwargs, task)


def call_of(args: Sequence[Any], kwargs: Dict[str, Any]) -> Tuple[List[Any], Dict[str, Any]]:
    """The arguments of a task from those of its job."""
    kwargs = dict(kwargs)
    return list(kwargs.pop(POSITIONAL, args)), kwargs


def result_of(view: JobView, alias: str) -> Any:
    """The task result that a job is, for the backend of this alias."""
    args, kwargs = call_of(*payload.call_of(view.arguments))
    result = TaskResult(
        task=_task(view, alias),
        id=view.id,
        status=_STATUS[view.state],
        enqueued_at=instant(view.enqueued),
        started_at=instant(_first_start(view)),
        finished_at=instant(view.ended),
        last_attempted_at=instant(view.started or view.ended),
        args=args,
        kwargs=kwargs,
        backend=alias,
        errors=_errors(view),
        worker_ids=[_SOME_WORKER] * _runs(view),
    )
    if view.state is State.FINISHED:
        object.__setattr__(result, "_return_value", view.result)
    return result


def _task(view: JobView, alias: str) -> Any:
    try:
        task = import_string(view.task)
    except ImportError:
        task = None
    if not isinstance(task, Task):
        raise TaskResultDoesNotExist(view.id)
    return task.using(queue_name=view.queue, run_after=instant(view.due), backend=alias)


def instant(at: Optional[datetime]) -> Optional[datetime]:
    """As this project has its times: with a time zone, or in that of the settings."""
    return at if at is None or settings.USE_TZ else timezone.make_naive(at)


def _first_start(view: JobView) -> Optional[datetime]:
    """When it first began, as far as that is kept."""
    if not view.attempts:
        return view.started
    is_all = (view.failures or 0) + (view.losses or 0) <= len(view.attempts)
    return view.attempts[0].started if is_all else None


def _runs(view: JobView) -> int:
    """How often it has run, as far as that is counted."""
    failed = max((view.failures or 0) + (view.losses or 0), len(view.attempts))
    return failed + (view.state in (State.RUNNING, State.FINISHED))


def _errors(view: JobView) -> List[Any]:
    """Of each run that failed, as far as they are kept. Only the last one has its traceback."""
    if view.error is None:
        return []
    return [*(_error(attempt.error) for attempt in view.attempts[:-1]), _error(view.error)]


def _error(error: JobError) -> Any:
    detail = error.detail or f"{error.kind}: {error.message}"
    return TaskError(exception_class_path=_class_path(error), traceback=detail)


def _class_path(error: JobError) -> str:
    """The exception's class with its module: the kind says it, or the line that ends the traceback."""
    if "." in error.kind:
        return error.kind
    if isinstance(getattr(builtins, error.kind, None), type):
        return f"builtins.{error.kind}"
    named = re.findall(rf"^([\w.]+\.{re.escape(error.kind)})(?::|$)", error.detail, re.MULTILINE)
    if named:
        return str(named[-1])
    return "pool_job.JobTimeout" if error.kind == "timeout" else "builtins.Exception"


