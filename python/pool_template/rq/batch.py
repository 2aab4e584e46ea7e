"""Batch tasks of RQ's jobs: a function that gets many of them in one call.

To Redis each of them is a job of its own: it was claimed alone, and it is ended alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Optional, Protocol

import pool_job
from pool_template.jobs import frames, lineage
from pool_template.jobs.batch import Batch, answers_of, is_batch_task
from pool_template.jobs.coroutines import complete_without_deadline

if TYPE_CHECKING:
    from pool_template.jobs.loop import Outcome


class Alone:
    """A batch task as everybody calls it who knows of one job: it is a batch of one."""

    def __init__(self, function: Callable[..., Any], complete: Callable[[Any], Any]) -> None:
        self.function = function
        self._complete = complete

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The answer; raised if it is an exception."""
        answer = answers_of(self.function, [pool_job.Call(args, kwargs)], self._complete)[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


def callable_alone(function: Callable[..., Any], complete: Callable[[Any], Any]) -> Callable[..., Any]:
    """What to call for a single job: the function itself if it is no batch task."""
    return Alone(function, complete) if is_batch_task(function) else function


def let_rq_call(job: Any) -> None:
    """Makes RQ's own code run this job as a batch of one, should its function be a batch task."""
    execute = job._execute

    def run() -> Any:
        function = callable_alone(job.func, complete_without_deadline)
        return function(*job.args, **job.kwargs) if isinstance(function, Alone) else execute()

    job._execute = run


def _is_alone_with(function: Callable[..., Any], called: Any) -> bool:
    return isinstance(called, Alone) and called.function is function


class Caller(Protocol):
    """The runner, as far as batches need it."""

    def read(self, payload: bytes) -> tuple[Callable[..., Any], Any, Any]:
        """The function of a plain job and its arguments."""
        ...

    def call_batch(self, batch: Batch, function: Callable[..., Any], timeout_ms: int, started_ns: int) -> None:
        """Calls the function of a batch under its deadline; what it raises passes."""
        ...

    def end_of_batch(self, job: bytes, answer: Any, started_ns: int) -> Outcome:
        """What becomes of one job of a batch that was given this answer."""
        ...

    def batch_failure(self, error: BaseException) -> Outcome:
        """A whole batch failed, and is to be run again in halves."""
        ...


class Jobs:
    """The jobs of one call; see `batch.Jobs`."""

    def __init__(self, runner: Caller, runs: list[frames.RunFrame], started_ns: int) -> None:
        self._runner = runner
        self._runs = runs
        self._started_ns = started_ns
        #: The function and the arguments of each, or why they can't be read; by the job's id.
        self._read: dict[bytes, Any] = {}
        for run in runs:
            try:
                self._read[run.job] = runner.read(run.payload)
            except Exception as error:
                self._read[run.job] = error

    def function(self) -> Optional[Callable[..., Any]]:
        """The batch task that they all call. None: they don't, since a description may name a function that is not
        the job's, or it is no batch task."""
        called = [read[0] for read in self._read.values() if isinstance(read, tuple)]
        first = called[0] if called else None
        if isinstance(first, Alone) and all(_is_alone_with(first.function, each) for each in called):
            return first.function
        return None

    def run(self, function: Callable[..., Any], splits: bool) -> list[Outcome]:
        """Calls the function. `splits`: if it raises, the batch is to be run again in halves."""
        batch = Batch(self, self._runs)
        try:
            self._runner.call_batch(batch, function, self._runs[0].timeout_ms, self._started_ns)
        except BaseException as error:
            if lineage.is_child:
                lineage.end_child(error)
            failure = error
            if splits:
                told = self._runner.batch_failure(failure)
                return batch.outcomes(lambda run: told)
            return batch.outcomes(lambda run: self.answered(run, failure))
        if lineage.is_child:
            lineage.end_child(None)
        return batch.outcomes()

    def arguments(self, run: frames.RunFrame) -> pool_job.Call:
        """See `batch.Jobs`."""
        read = self._read[run.job]
        if isinstance(read, Exception):
            raise read
        _, args, kwargs = read
        return pool_job.Call(tuple(args), kwargs)

    def answered(self, run: frames.RunFrame, answer: Any) -> Outcome:
        """See `batch.Jobs`."""
        return self._runner.end_of_batch(run.job, answer, self._started_ns)
