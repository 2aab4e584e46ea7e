"""Runs jobs where they are enqueued, for the tests of an application.

    from poolhouse.testing import inline

    with inline(pool) as ran:
        assert resize.enqueue(path="a.png").result() == {"path": "a.png", "width": 640}
    assert [job.task for job in ran.jobs] == ["shop.jobs.resize"]

Arguments and results go through JSON, so that a test sees what a job sees, and errors are of the kinds that they are of in a
pool of the python runtime. Retries run at once, and a delay is none. No broker is opened, no process started, and a timeout
interrupts nothing. Any module may have the tasks: which ones a pool lets jobs name is a matter of its settings.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Dict, Iterator, List, Optional, Protocol, Sequence, Tuple

from poolhouse import check, payload, runs
from poolhouse.connection import Connection
from poolhouse.errors import IdTaken
from poolhouse.filter import JobFilter
from poolhouse.model import (
    GROUP,
    PREVIOUS,
    Attempt,
    Canceled,
    Enqueued,
    GroupView,
    JobError,
    JobView,
    NewGroup,
    NewJob,
    State,
)

_PAYLOAD_LEN_MAX = 1 << 20


class Enqueues(Protocol):
    """What enqueues jobs: a `Pool`, or a `PoolBackend` of Django's tasks."""

    _connection: Connection


@contextmanager
def inline(pool: Enqueues) -> Iterator[InlineBroker]:
    """While it lasts, jobs that this pool enqueues run at once. Yields what ran."""
    connection = pool._connection
    before, connection.substitute = connection.substitute, InlineBroker()
    try:
        yield connection.substitute
    finally:
        connection.substitute = before


class InlineBroker:
    """A broker that runs its jobs itself. See `broker.Broker`."""

    def __init__(self) -> None:
        self._views: Dict[str, JobView] = {}
        self._results: Dict[str, bytes] = {}
        self._groups: Dict[str, List[str]] = {}

    @property
    def jobs(self) -> List[JobView]:
        """The jobs that were enqueued, in the order in which they ran."""
        return list(self._views.values())

    def enqueue(self, jobs: Sequence[NewJob]) -> List[Enqueued]:
        """See `broker.Broker`."""
        check.jobs(jobs, _PAYLOAD_LEN_MAX)
        self._check_ids(jobs)
        for job in jobs:
            self._run(job)
        return [Enqueued(job.id, True, self._views[job.id].enqueued) for job in jobs]

    def enqueue_group(self, group: NewGroup) -> None:
        """See `broker.Broker`."""
        check.group(group, _PAYLOAD_LEN_MAX)
        self._check_ids([*group.jobs, *group.callbacks()])
        if group.id in self._groups:
            raise IdTaken(group.id, "group")
        self._groups[group.id] = [job.id for job in group.jobs]
        for job in group.jobs:
            self._run(job)
        view = self.find_group(group.id)
        assert view is not None, "it was just added"
        summary = {"group": view.id, "total": view.total, "finished": view.finished, "failed": view.failed}
        for callback, is_due in ((group.on_failure, bool(view.failed)), (group.on_done, True)):
            if callback is not None and is_due:
                told = payload.hand_on(callback.arguments, GROUP, json.dumps(summary).encode())
                self._run(callback._replace(arguments=told))

    def enqueue_chain(self, jobs: Sequence[NewJob]) -> None:
        """See `broker.Broker`."""
        check.chain(jobs, _PAYLOAD_LEN_MAX)
        self._check_ids(jobs)
        previous: Optional[NewJob] = None
        for job in jobs:
            if previous is None:
                self._run(job)
            elif previous.id in self._results:
                self._run(job._replace(arguments=payload.hand_on(job.arguments, PREVIOUS, self._results[previous.id])))
            else:
                why = f"it did not run, since job {previous.id} of task `{previous.task}`, earlier in its chain, failed"
                self._keep(job, None, JobError("earlier job failed", why))
            previous = job

    def find(self, ids: Sequence[str]) -> List[Optional[JobView]]:
        """See `broker.Broker`."""
        return [self._views.get(id) for id in ids]

    def cancel(self, ids: Sequence[str], running: bool) -> List[Canceled]:
        """See `broker.Broker`; all jobs have ended."""
        return [Canceled.ENDED if id in self._views else Canceled.UNKNOWN for id in ids]

    def search(self, filter: JobFilter, most: int, after: Any = None) -> Tuple[List[str], Any]:
        """See `broker.Broker`; there are few, and all have ended."""
        found = [view for view in reversed(self.jobs) if filter.matches(view)]
        return [view.id for place in filter.places() for view in found if view.state.place is place], None

    def purge(self, queue: str, scheduled: bool, most: int) -> int:
        """See `broker.Broker`; all jobs have ended."""
        return 0

    def wait(self, id: str, limit: Optional[float]) -> Optional[JobView]:
        """See `broker.Broker`."""
        return self._views.get(id)

    async def wait_async(self, id: str, limit: Optional[float]) -> Optional[JobView]:
        """See `broker.Broker`."""
        return self._views.get(id)

    def find_group(self, id: str) -> Optional[GroupView]:
        """See `broker.Broker`."""
        members = self._groups.get(id)
        if members is None:
            return None
        finished = sum(member in self._results for member in members)
        return GroupView(id, len(members), finished, len(members) - finished, True)

    def group_members(self, id: str) -> List[str]:
        """See `broker.Broker`."""
        return list(self._groups.get(id, []))

    def wait_group(self, id: str, limit: Optional[float]) -> Optional[GroupView]:
        """See `broker.Broker`."""
        return self.find_group(id)

    async def wait_group_async(self, id: str, limit: Optional[float]) -> Optional[GroupView]:
        """See `broker.Broker`."""
        return self.find_group(id)

    def close(self) -> None:
        """See `broker.Broker`."""

    def _check_ids(self, jobs: Sequence[NewJob]) -> None:
        taken = next((job.id for job in jobs if job.id in self._views), None)
        if taken is not None:
            raise IdTaken(taken)

    def _run(self, job: NewJob) -> None:
        """Runs a job as often as it may."""
        error: Optional[JobError] = None
        attempts: List[Attempt] = []
        for attempt in range(1, (job.retries or 0) + 2):
            started = datetime.now(timezone.utc)
            try:
                result = runs.result_of(job, attempt)
            except KeyboardInterrupt:
                raise
            except BaseException as raised:
                error = runs.error_of(raised, job.retries or 0, attempt)
                attempts.append(Attempt(replace(error, detail=""), started, datetime.now(timezone.utc)))
                if isinstance(raised, runs.Rejected):
                    break
            else:
                self._results[job.id] = result
                return self._keep(job, result, error, attempts)
        self._keep(job, None, error, attempts)

    def _keep(
        self, job: NewJob, result: Optional[bytes], error: Optional[JobError], attempts: Sequence[Attempt] = ()
    ) -> None:
        now = datetime.now(timezone.utc)
        self._views[job.id] = JobView(
            id=job.id,
            queue=job.queue,
            task=job.task,
            arguments=job.arguments,
            state=State.DEAD if result is None else State.FINISHED,
            enqueued=now,
            due=None,
            ended=now,
            failures=len(attempts),
            losses=0,
            result=None if result is None else payload.decode(result),
            error=error,
            attempts=tuple(attempts),
        )
