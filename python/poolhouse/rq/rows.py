"""Jobs on their way to Redis: RQ makes them, `enqueue.lua` writes them."""

from __future__ import annotations

import json
import math
import time
from datetime import datetime
from typing import Any, List, Optional

from rq import Queue, Retry
from rq.job import Dependency, Job, JobStatus

from poolhouse.errors import Refused
from poolhouse.model import GROUP, NewGroup, NewJob
from poolhouse.payload import call_of, hand_on

try:
    from rq.defaults import RQ_KEY_PREFIX

    _HAS_RATE_LIMITS = True
except ImportError:  # before RQ 3
    RQ_KEY_PREFIX = "rq"
    _HAS_RATE_LIMITS = False

#: What all keys begin with.
PREFIX: str = RQ_KEY_PREFIX
#: For the scripts: the prefix of all keys, then those of queues and of jobs, a line each. See common.lua.
NAMES = f"{PREFIX}\n{PREFIX}:queue:\n{PREFIX}:job:"

#: The field that says how many retries a job had at first: RQ keeps those that are left. See `src/broker/rq/lua/job.lua`.
_RETRIES = "pool_retries"


class Rows:
    """Makes the arguments of the script: id, queue, place, what becomes of it if there is one with its id, its time to live,
    its rate limit, and its fields."""

    def __init__(self, redis: Any, serializer: Any) -> None:
        self._redis, self._serializer = redis, serializer

    def row(self, new: NewJob, at: datetime) -> List[Any]:
        """A job that waits in its queue, or is due later."""
        later = new.due_ms is not None and new.due_ms > time.time_ns() // 1_000_000
        job = self._job(new, JobStatus.SCHEDULED if later else JobStatus.QUEUED)
        if later and new.at_front:
            job.enqueue_at_front = True
        job.created_at = at
        if not later:
            job.enqueued_at = at
        due = math.ceil((new.due_ms or 0) / 1000)
        return self._arguments(job, new, due if later else "L" if new.at_front else "R")

    def after(self, new: NewJob, group: NewGroup) -> List[Any]:
        """The job that runs when all of a group have ended, well or not. It gets what is known of the group by now."""
        summary = json.dumps({"group": group.id, "total": len(group.jobs)}).encode()
        new = new._replace(arguments=hand_on(new.arguments, GROUP, summary))
        members = [Job.create("none", id=job.id, connection=self._redis) for job in group.jobs]
        job = self._job(new, JobStatus.DEFERRED, Dependency(members, allow_failure=True))
        return self._arguments(job, new, f"D{int(time.time())}")

    def _job(self, new: NewJob, status: JobStatus, depends_on: Any = None) -> Job:
        args, kwargs = call_of(new.arguments)
        queue = Queue(new.queue, connection=self._redis, serializer=self._serializer)
        job = queue.create_job(
            new.task,
            args=tuple(args),
            kwargs=kwargs,
            timeout=_seconds(new.timeout_ms) if new.timeout_ms is not None else Queue.DEFAULT_TIMEOUT,
            result_ttl=None if new.result_ttl_ms is None else _seconds(new.result_ttl_ms),
            # A job with a key is known by it: that is what RQ's unique jobs are.
            job_id=new.unique_key if new.unique_key is not None else new.id,
            status=status,
            retry=Retry(new.retries) if new.retries else None,
            depends_on=depends_on,
            ttl=_time_to_live(new),
        )
        job.origin = new.queue
        if new.limit is not None:
            if not _HAS_RATE_LIMITS:
                raise Refused(f"a job of `{new.task}`: a limit needs RQ 3 or newer")
            job.rate_limit_key, job.rate_limit_concurrency = new.limit
        return job

    @staticmethod
    def _arguments(job: Job, new: NewJob, place: Any) -> List[Any]:
        fields = job.to_dict()
        if new.retries:
            fields[_RETRIES] = new.retries
        held = "taken" if new.unique_key is None else "open"
        limit = ("", "") if new.limit is None else new.limit
        row: List[Any] = [job.id, new.queue, place, held, job.ttl or "", *limit, len(fields)]
        for field, value in fields.items():
            row += (field, value)
        return row


def publish_stop(redis: Any, id: str) -> bool:
    """Asks the worker of a job to stop it; whether there is one that hears. Source: `rq/command.py`."""
    worker = redis.hget(f"{PREFIX}:job:{id}", "worker_name")
    if not worker:
        return False
    order = json.dumps({"command": "stop-job", "job_id": id})
    return bool(redis.publish(f"{PREFIX}:pubsub:{worker.decode()}", order))


def _time_to_live(new: NewJob) -> Optional[int]:
    """How many seconds it may be queued: RQ counts them from when it is."""
    if new.begin_by_ms is None:
        return None
    queued_ms = max(time.time_ns() // 1_000_000, new.due_ms or 0)
    return max(1, _seconds(new.begin_by_ms - queued_ms))


def _seconds(ms: int) -> int:
    """Whole seconds, and never none of what was some."""
    return math.ceil(ms / 1000)
