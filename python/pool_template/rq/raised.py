"""Exceptions of `pool_job` in jobs that RQ's own code runs and ends: `Retry` and `JobTimeout`."""

from __future__ import annotations

from typing import Any

import pool_job
from rq.timeouts import JobTimeoutException


def let_choose_the_wait(job: Any) -> None:
    """`Retry(after=…)` chooses the wait before the next run, in the place of the job's retry policy."""
    perform = job.perform

    def run() -> Any:
        try:
            return perform()
        except pool_job.Retry as asked:
            after_s = asked.after_s
            if after_s is not None:
                job.get_retry_interval = lambda: after_s
            raise

    job.perform = run


def join_timeouts() -> None:
    """`except pool_job.JobTimeout` catches RQ's exception, which stays what it is for all others."""
    bases = JobTimeoutException.__bases__
    if pool_job.JobTimeout not in bases:
        JobTimeoutException.__bases__ = (*bases, pool_job.JobTimeout)
