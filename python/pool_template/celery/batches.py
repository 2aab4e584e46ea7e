"""Batch tasks: one call for many messages.

Two kinds. A task of the package celery-batches gets a list of requests, and stores what it wants to; the package's own
code calls it. A task whose function `pool_job.batch` marked gets a list of calls and answers each; then each message
goes through Celery's tracer with its answer, as if it had run alone.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, NamedTuple, Optional

import pool_job
from celery._state import _task_stack
from celery.app.task import Context

from pool_template.jobs.batch import answers_of, is_batch_task

#: No answer is told: the task is called alone. None is an answer.
_ALONE = object()
_LINGER_MS_MAX = 2**32 - 1


class Rule(NamedTuple):
    """How messages of a task are gathered."""

    size: int
    linger_ms: int


def takes_requests(task: Any) -> bool:
    """Whether it is one of celery-batches."""
    return any(kind.__module__.partition(".")[0] == "celery_batches" for kind in type(task).__mro__)


def rule_of(task: Any) -> Optional[Rule]:
    """How the code of a task wants its messages gathered; None: it takes one at a time."""
    if takes_requests(task):
        linger_ms = round(max(0.0, float(task.flush_interval)) * 1000)
        return Rule(max(1, int(task.flush_every)), min(linger_ms, _LINGER_MS_MAX))
    run = task.run
    if isinstance(run, Answers) or is_batch_task(run):
        declared = run.__pool_batch__
        return Rule(declared.size, declared.linger_ms)
    return None


def rules_of(tasks: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Those of all batch tasks, as the supervisor is told of them."""
    found = ((str(name), rule_of(task)) for name, task in tasks.items())
    return {name: rule._asdict() for name, rule in found if rule is not None}


def prepare(task: Any, complete: Callable[[Any], Any]) -> None:
    """Makes a batch task ready to run, ahead of its tracer; `complete` runs what a coroutine function returns."""
    if takes_requests(task):
        if not isinstance(task.run, Noticed):
            task.run = Noticed(task.run)
        return
    # Celery puts a function of its own before one with `autoretry_for`. Source: `celery/app/autoretry.py`.
    attribute = "_orig_run" if hasattr(task, "_orig_run") else "run"
    run = getattr(task, attribute)
    if is_batch_task(run) and not isinstance(run, Answers):
        setattr(task, attribute, Answers(task, run, complete))


class Noticed:
    """Notes what the code of a task of celery-batches raises: the package logs that and says no more of it."""

    def __init__(self, run: Callable[..., Any]) -> None:
        functools.update_wrapper(self, run)
        self._run = run
        self.error: Optional[Exception] = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._run(*args, **kwargs)
        except Exception as error:
            self.error = error
            raise


def call_with_requests(task: Any, requests: list[Any]) -> Optional[Exception]:
    """Calls a task of celery-batches. Returns what it raised."""
    from celery_batches import SimpleRequest
    from celery_batches.trace import apply_batches_task

    task.run.error = None
    apply_batches_task(task, ([SimpleRequest.from_request(request) for request in requests],), 0, None)
    error, task.run.error = task.run.error, None
    return error


class Answers:
    """Stands for the function of a batch task, for the tracer: gives the answer that the running message was given. A
    message that comes alone is a batch of one."""

    def __init__(self, task: Any, function: Callable[..., Any], complete: Callable[[Any], Any]) -> None:
        functools.update_wrapper(self, function)  # the mark, too
        self._task = task
        self._function = function
        self._complete = complete
        self._answer: Any = _ALONE

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        answer, self._answer = self._answer, _ALONE
        if answer is _ALONE:
            answer = answers_of(self._function, [pool_job.Call(args, kwargs)], self._complete)[0]
        if isinstance(answer, pool_job.Retry):
            raise self._task.retry(countdown=answer.after_s)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def of_calls(self, calls: list[pool_job.Call]) -> Any:
        """Calls the function: an answer for each. What it raises passes."""
        task = self._task
        _task_stack.push(task)
        task.request_stack.push(Context())
        try:
            return answers_of(self._function, calls, self._complete)
        finally:
            task.request_stack.pop()
            _task_stack.pop()

    def give(self, answer: Any, run: Callable[[], Any]) -> Any:
        """Runs the tracer of one message that was given this answer."""
        self._answer = answer
        trace = answer.__traceback__ if isinstance(answer, BaseException) else None
        try:
            return run()
        finally:
            self._answer = _ALONE
            if isinstance(answer, BaseException):
                answer.__traceback__ = trace  # it may be the answer of others, too


def answers_of_task(task: Any) -> Optional[Answers]:
    """What stands for its function; None: it is no such task."""
    run = getattr(task, "_orig_run", task.run)
    return run if isinstance(run, Answers) else None
