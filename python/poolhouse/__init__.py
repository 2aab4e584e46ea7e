"""Enqueue jobs for `pool`, and wait for their results.

    from poolhouse import Pool

    pool = Pool()

    @pool.task
    def resize(path, width=640):
        ...

    job = resize.enqueue(path="a.png")
    job.result(timeout="1m")

Jobs run where `pool --runtime python --preload MODULE` does. Standard library only; the documentation is docs/client.md.
"""

from pool_job import JobTimeout, Retry, batch, current_job, current_jobs
from poolhouse.errors import (
    BrokerError,
    BrokerUnreachable,
    IdTaken,
    JobCanceled,
    JobFailed,
    JobUnknown,
    PoolhouseError,
    Refused,
)
from poolhouse.job import Group, Job
from poolhouse.model import Attempt, Canceled, GroupView, JobError, JobView, Progress, State
from poolhouse.pool import Pool
from poolhouse.task import Chain, Signature, Task

__all__ = [
    "Attempt",
    "BrokerError",
    "BrokerUnreachable",
    "Canceled",
    "Chain",
    "Group",
    "GroupView",
    "IdTaken",
    "Job",
    "JobCanceled",
    "JobError",
    "JobFailed",
    "JobTimeout",
    "JobUnknown",
    "JobView",
    "Pool",
    "PoolhouseError",
    "Progress",
    "Refused",
    "Retry",
    "Signature",
    "State",
    "Task",
    "batch",
    "current_job",
    "current_jobs",
]
