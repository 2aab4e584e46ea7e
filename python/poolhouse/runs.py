"""One run of a job in this process, as a worker of the python runtime makes it."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import threading
import traceback
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List, Optional, Tuple

import pool_job
from poolhouse import payload
from poolhouse.errors import Refused
from poolhouse.model import JobError, NewJob

#: Where this package's code is: its lines tell an application nothing.
_OURS = os.path.dirname(__file__) + os.sep


class Rejected(Exception):
    """Another run could not help."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        #: The error's kind.
        self.kind = kind


def result_of(job: NewJob, attempt: int) -> bytes:
    """Runs it: its result as JSON. Raises what it raises, and `Rejected`."""
    value = _call(job, attempt)
    try:
        return payload.encode(value, f"the result of `{job.task}`")
    except Refused as error:
        raise Rejected("result not JSON", str(error)) from None


def error_of(raised: BaseException, retries: int, attempt: int) -> JobError:
    """The error of a run that raised this, as a pool tells it. `attempt`: 1 is the first run."""
    if isinstance(raised, Rejected):
        return JobError(raised.kind, str(raised))
    if isinstance(raised, pool_job.Retry):
        return JobError("retry", str(raised) if attempt <= retries else f"{raised} (asked to run again, {_used_up(retries)})")
    return JobError(_type_name(raised), str(raised), _traceback(raised))


def _used_up(retries: int) -> str:
    if retries == 0:
        return "but has no retries; give it some with `retries`"
    return "but its only retry is used" if retries == 1 else f"but all {retries} retries are used"


def _call(job: NewJob, attempt: int) -> Any:
    function = _function(job.task)
    args, kwargs = payload.call_of(job.arguments)
    timeout = None if job.timeout_ms is None else job.timeout_ms / 1000
    with _running(pool_job.Job(job.id, job.queue, job.task, attempt, timeout)):
        if hasattr(function, "__pool_batch__"):
            value = json.loads(job.arguments) if job.arguments.strip() else None
            (answer,) = _completed(function([value]))
            if isinstance(answer, BaseException):
                raise answer
            return answer
        try:
            answer = function(*args, **kwargs)
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:
                raise Rejected("wrong arguments", str(error)) from None  # the function never began
            raise
        return _completed(answer)


def _function(task: str) -> Callable[..., Any]:
    """The function that a task names: `module.function` or `module.Class.method`."""
    parts = task.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:cut])
        try:
            found: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and (name == error.name or name.startswith(error.name + ".")):
                continue
            raise
        for part in parts[cut:]:
            found = None if part.startswith("_") else getattr(found, part, None)
        stands_for = getattr(type(found), "__pool_task__", None)
        function: Any = found if stands_for is None else stands_for(found)
        if not callable(function):
            raise Rejected("unknown task", f"module `{name}` has no function `{'.'.join(parts[cut:])}` that a job may name")
        return function  # type: ignore[no-any-return]
    raise Rejected("unknown task", f"there is no module for the task `{task}`")


def _completed(answer: Any) -> Any:
    """Runs what a coroutine function returned, in an event loop of its own; the caller may be in one."""
    if not inspect.iscoroutine(answer):
        return answer
    outcome: List[Tuple[Any, Optional[BaseException]]] = []

    def run() -> None:
        try:
            outcome.append((asyncio.run(answer), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    ((value, error),) = outcome
    if error is not None:
        raise error
    return value


@contextmanager
def _running(job: pool_job.Job) -> Iterator[None]:
    """What `current_job` says meanwhile."""
    before = pool_job._read_current, pool_job._read_batch
    pool_job._read_current, pool_job._read_batch = (lambda: job), (lambda: [job])
    try:
        yield
    finally:
        pool_job._read_current, pool_job._read_batch = before


def _traceback(error: BaseException) -> str:
    """It, from the application's first line on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
