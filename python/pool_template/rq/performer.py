"""Jobs that RQ's job object performs, with their callbacks. The broker ends them, as long as it can do what RQ does.

Source: `rq/worker/base.py`, `perform_job`, `_finalize_success`, `_finalize_failure`.
"""

from __future__ import annotations

import sys
from operator import attrgetter
from typing import Any, Callable

from rq.job import JobStatus
from rq.timeouts import JobTimeoutException
from rq.utils import now

try:
    from rq.callbacks import execute_failure_callback, execute_success_callback

    #: Whether this RQ lets others call callbacks as it does.
    calls_callbacks = True
except ImportError:  # RQ 2: its own code does all of it
    calls_callbacks = False

from pool_template.jobs import lineage
from pool_template.jobs.loop import Outcome
from pool_template.rq import outcome
from pool_template.rq.code import RqCode
from pool_template.rq.lifecycle import Lifecycle

#: What RQ writes at the end of a job, but for what tells of the end itself.
_KEPT = attrgetter(
    "_data", "_success_callback_name", "_failure_callback_name", "_stopped_callback_name",
    "_success_callback_timeout", "_failure_callback_timeout", "_stopped_callback_timeout",
    "created_at", "origin", "description", "enqueued_at", "timeout", "result_ttl", "failure_ttl", "ttl", "group_id",
    "number_of_retries", "retries_left", "repeats_left", "rate_limit_key", "rate_limit_concurrency",
    "allow_dependency_failures", "enqueue_at_front", "enqueue_at_front_on_retry", "_exc_info",
)  # fmt: skip
_KEPT_LISTS = attrgetter("retry_intervals", "repeat_intervals", "webhooks", "_dependency_ids")


def kept(job: Any) -> tuple[Any, ...]:
    """All of a job that RQ would write at its end: whoever changes it asks for RQ's own code."""
    return (*_KEPT(job), *(tuple(each) if each else () for each in _KEPT_LISTS(job)))


class Performer:
    """Performs the jobs of one worker."""

    def __init__(self, code: RqCode, max_result: int) -> None:
        self._fails_itself = code.has_handlers or code.settings.disable_default_exception_handler
        self._dumps = code.serializer.dumps
        self._max_result = max_result
        self._default_timeout = code.queue_class.DEFAULT_TIMEOUT

    def run(self, lifecycle: Lifecycle, job: Any, execution: Callable[[], Any]) -> Outcome:
        """Performs a job that the broker has started. `execution` is asked only if RQ's own code is to end it."""
        before = kept(job)
        penalty = lifecycle.worker.death_penalty_class
        try:
            with penalty(job.timeout or self._default_timeout, JobTimeoutException, job_id=job.id):
                value = job.perform()
            if lineage.is_child:
                lineage.end_child(None)
            answer = outcome.success(value, self._dumps, self._max_result)
            if answer is None or kept(job) != before:
                lifecycle.finalize_success(job, execution(), value)
                return outcome.SETTLED
            job.ended_at = job.last_heartbeat = now()
            job._result, job._status = value, JobStatus.FINISHED
            execute_success_callback(job, penalty, value)
        except BaseException as error:
            if lineage.is_child:
                lineage.end_child(error)
            return self.failed(lifecycle, job, execution, before)
        if kept(job) != before:
            lifecycle.commit_success(job, execution())
            return outcome.SETTLED
        return answer

    def failed(self, lifecycle: Lifecycle, job: Any, execution: Callable[[], Any], before: tuple[Any, ...]) -> Outcome:
        """What comes after a job that has raised, which is being handled."""
        raised = sys.exc_info()
        if self._fails_itself or kept(job) != before:
            lifecycle.finalize_failure(job, execution(), raised)
            return outcome.SETTLED
        job.ended_at = job.last_heartbeat = now()
        job._status = JobStatus.FAILED
        try:
            execute_failure_callback(job, lifecycle.worker.death_penalty_class, *raised)
        except BaseException:
            raised = sys.exc_info()  # it replaces the job's
        if kept(job) != before:
            lifecycle.commit_failure(job, execution(), raised)
            return outcome.SETTLED
        error = raised[1]
        assert error is not None
        return outcome.failure(error)
