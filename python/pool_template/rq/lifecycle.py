"""RQ's own end of a job, run in a worker of the pool over a connection of its own: for all that a plain job is not."""

from __future__ import annotations

import contextlib
import inspect
import os
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, Callable, Optional
from uuid import uuid4

import rq
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.executions import Execution, ExecutionRegistry
from rq.job import JobStatus
from rq.registry import ScheduledJobRegistry
from rq.utils import as_text, now

try:
    from rq.job_lifecycle import format_exc_info
except ImportError:  # RQ 2, whose own code does all of it
    pass

from pool_template.rq.batch import let_rq_call
from pool_template.rq.code import RqCode
from pool_template.rq.raised import let_choose_the_wait
from pool_template.rq.taken import Taken

#: What ended a job, replayed to RQ's code: returns its value or raises its exception.
Replay = Callable[[], Any]


class Lifecycle:
    """One worker's hold on RQ's code. The connection opens when it is first needed."""

    def __init__(self, code: RqCode, name: str, queues: list[str]) -> None:
        self._code = code
        self._connection = code.connect()
        self._queues = queues
        self._known_queues: dict[str, Any] = {}
        self.worker = code.worker(name, queues, self._connection)

    def fetch(self, job_id: str) -> Any:
        """The job as Redis knows it, run by this worker."""
        job = self._code.job_class.fetch(job_id, connection=self._connection, serializer=self._code.serializer)
        job.worker_name = self.worker.name
        return job

    def begin(self, job_id: str, known: Taken, started_ns: int) -> tuple[Any, Execution]:
        """A job that the broker has started and its execution, made of what the broker read of them."""
        job = self._code.job_class(job_id, connection=self._connection, serializer=self._code.serializer)
        job.restore(known.fields)
        job.started_at = _began(started_ns)
        job.worker_name = self.worker.name
        let_rq_call(job)
        let_choose_the_wait(job)
        execution = Execution(known.execution, job_id, self._connection)
        execution.worker_name = job.worker_name
        return job, execution

    def run_whole(self, job_id: str, known: Taken, started_ns: int) -> None:
        """A job that RQ's own code is to end: all of it, as RQ's worker does between two jobs."""
        self._perform(*self.begin(job_id, known, started_ns))

    def finalize_success(self, job: Any, execution: Execution, value: Any) -> None:
        """A job has been performed: what comes after it, with its success callback."""
        with self._executing(execution) as worker:
            worker._finalize_success(job, self._queue_of(job), execution, value)

    def finalize_failure(self, job: Any, execution: Execution, raised: Any) -> None:
        """A job, or its success callback, has raised: what comes after it, with its failure callback."""
        with self._executing(execution) as worker:
            worker._finalize_failure(job, self._queue_of(job), execution, raised)

    def commit_success(self, job: Any, execution: Execution) -> None:
        """What comes after the success callback."""
        queue = self._queue_of(job)
        with self._executing(execution) as worker:
            worker.handle_job_success(job, queue, queue.started_job_registry, execution=execution)
            job.send_webhooks(JobStatus.FINISHED)

    def commit_failure(self, job: Any, execution: Execution, raised: Any) -> None:
        """What comes after the failure callback."""
        with self._executing(execution) as worker:
            worker.handle_exception(job, *raised)
            text = format_exc_info(raised)
            worker.handle_job_failure(job, self._queue_of(job), exc_string=text, execution=execution)

    def fetch_started(self, job_id: str) -> Any:
        """A job that the broker has started, of which the worker was only told the data."""
        job = self.fetch(job_id)
        job.started_at = now()
        let_rq_call(job)
        let_choose_the_wait(job)
        return job

    def run_started(self, job_id: str) -> None:
        """A job that the broker has started already, and that classes of the user's are to run."""
        try:
            job = self.fetch_started(job_id)
        except NoSuchJobError:
            return
        self._perform(job, self.execution_of(job))

    def finish(self, job_id: str, job: Any, started_ns: int, replay: Replay) -> None:
        """A plain job whose function has run: what comes after it, by RQ's code. `job` is the object that the function
        has seen, if it asked for it."""
        if job is None:
            try:
                job = self.fetch(job_id)
            except NoSuchJobError:
                return
        job.perform = replay
        let_choose_the_wait(job)
        job.started_at = _began(started_ns)
        self.worker.pool_ran_since = job.started_at
        try:
            self._perform(job, self.execution_of(job))
        finally:
            self.worker.pool_ran_since = None

    def finish_elsewhere(self, order: dict[str, Any]) -> None:
        """A plain job that the broker found to need more than it does: `finish`, for whichever worker ran it."""
        found = self._find(order)
        if found is None:
            return
        worker, job, queue, execution = found
        job.started_at, job.ended_at = _utc(order["started"]), _utc(order["ended"])
        job.worker_name = worker.name
        if order["outcome"] == "success":
            data = order["result"]
            job._result = self._code.serializer.loads(data) if data else None
            job._status = JobStatus.FINISHED
            _call(worker.handle_job_success, job, queue, queue.started_job_registry, execution=execution)
            if hasattr(job, "send_webhooks"):  # not in every RQ 2
                job.send_webhooks(JobStatus.FINISHED)
        else:
            job._status = JobStatus.FAILED
            _call(
                worker.handle_job_failure, job, queue=queue, exc_string=order.get("exc_string", ""), execution=execution
            )

    def lost(self, order: dict[str, Any]) -> None:
        """A worker died with a job. Source: `rq/worker/worker_classes.py`, `monitor_work_horse`."""
        found = self._find(order)
        if found is None:
            return
        worker, job, queue, execution = found
        try:
            known = job.get_status()
        except InvalidJobOperation:
            return
        if known == JobStatus.FAILED:
            # It died on the way from writing that to those who wait for it.
            queue.enqueue_dependents(job)
        if known in (JobStatus.FINISHED, JobStatus.FAILED):
            return
        status = _wait_status(order)
        signal = f" (signal {os.WTERMSIG(status)})" if status and os.WIFSIGNALED(status) else ""
        _forget_start(job)
        job.ended_at = now()
        worker.handle_work_horse_killed(job, order.get("pid"), status, None)
        text = f"Work-horse terminated unexpectedly; waitpid returned {status}{signal}; "
        _call(worker.handle_job_failure, job, queue=queue, exc_string=text, execution=execution)

    def stopped(self, order: dict[str, Any]) -> None:
        """Somebody stopped a job; its worker was killed. Source: as `lost`."""
        found = self._find(order)
        if found is None:
            return
        worker, job, queue, execution = found
        worker._stopped_job_id = job.id
        _forget_start(job)
        end = getattr(type(worker), "_handle_stopped_job", None) or getattr(rq.Worker, "_handle_stopped_job", None)
        if end is not None:
            end(worker, job, queue, execution)
            return
        job.ended_at = now()
        try:  # RQ 2
            if job.stopped_callback:
                job.execute_stopped_callback(worker.death_penalty_class)
        finally:
            text = "Job stopped by user, work-horse terminated."
            _call(worker.handle_job_failure, job, queue=queue, exc_string=text, execution=execution)

    def maintain(self, queues: list[str]) -> None:
        """RQ's housekeeping of these queues. Source: `rq/worker/base.py`, `run_maintenance_tasks`."""
        worker = self.worker if queues == self._queues else self._worker_named(self.worker.name, queues)
        worker.clean_registries()
        if hasattr(worker, "clean_group_registries"):
            worker.clean_group_registries()
        else:
            from rq.group import Group

            Group.clean_registries(connection=self._connection)

    def enqueue(self, name: str, job_ids: list[str]) -> None:
        """Scheduled jobs that are due and have a rate limit. Source: `rq/scheduler.py`, `enqueue_scheduled_jobs`."""
        queue = self._code.queue(name, self._connection)
        registry = ScheduledJobRegistry(queue=queue)
        found = self._code.job_class.fetch_many(job_ids, self._connection, self._code.serializer)
        for job_id, job in zip(job_ids, found):
            with self._connection.pipeline() as pipeline:
                registry.remove(job_id, pipeline=pipeline)
                if job is not None:
                    queue._enqueue_rate_limited_job(job, pipeline=pipeline, at_front=job.should_enqueue_at_front())
                pipeline.execute()

    def _perform(self, job: Any, execution: Execution) -> None:
        with self._executing(execution) as worker:
            _call(worker.perform_job, job, self._queue_of(job), execution=execution)

    @contextlib.contextmanager
    def _executing(self, execution: Execution) -> Iterator[Any]:
        self.worker.execution = execution
        try:
            yield self.worker
        finally:
            self.worker.execution = None

    def _queue_of(self, job: Any) -> Any:
        """Its queue. One object for all of a queue's jobs, since each asks the server for its version once."""
        queue = self._known_queues.get(job.origin)
        if queue is None:
            queue = self._known_queues[job.origin] = self._code.queue(job.origin, self._connection)
        return queue

    def execution_of(self, job: Any) -> Execution:
        """The execution that the broker began: the newest one that is recorded; else the one that holds the claim.
        A new one if there is neither any more: RQ's code can't do without."""
        ids = ExecutionRegistry(job.id, self._connection).get_execution_ids()
        if not ids:
            claims = self._connection.zscan_iter(job.started_job_registry.key, match=f"{job.id}:*")
            ids = [as_text(member).rpartition(":")[2] for member, _ in claims]
        return self._execution(job, ids[-1] if ids else uuid4().hex)

    def _execution(self, job: Any, execution_id: str) -> Execution:
        try:
            return Execution.fetch(execution_id, job.id, self._connection)
        except ValueError:  # a short one is not recorded
            execution = Execution(execution_id, job.id, self._connection)
            execution.created_at = job.started_at or execution.created_at
            return execution

    def _find(self, order: dict[str, Any]) -> Optional[tuple[Any, Any, Any, Execution]]:
        """Worker, job, queue and execution that an order names; None when the job is no more."""
        job_id = order["job_id"]
        worker = self._worker_named(order.get("worker_name") or self.worker.name, self._queues)
        try:
            job = self._code.job_class.fetch(job_id, connection=self._connection, serializer=self._code.serializer)
        except NoSuchJobError:
            return None
        queue = self._queue_of(job)
        known = order.get("execution_id")
        execution = self._execution(job, known) if known else self.execution_of(job)
        worker.execution = execution
        return worker, job, queue, execution

    def _worker_named(self, name: str, queues: list[str]) -> Any:
        return self._code.worker(name, queues, self._connection)


def _call(method: Callable[..., Any], *args: Any, execution: Execution, **kwargs: Any) -> Any:
    """Calls a method of RQ's worker; those of RQ 2 find the execution at the worker."""
    if "execution" in inspect.signature(method).parameters:
        kwargs["execution"] = execution
    return method(*args, **kwargs)


def _forget_start(job: Any) -> None:
    """RQ's parent process ends a job with what it knew of it before the start, and writes that back."""
    job.last_heartbeat = job.worker_name = None


def _began(started_ns: int) -> datetime:
    """A moment of the monotonic clock, in nanoseconds."""
    return _utc(time.time() - (time.monotonic_ns() - started_ns) / 1e9)


def _utc(seconds: Any) -> datetime:
    return datetime.fromtimestamp(float(seconds), tz=timezone.utc)


def _wait_status(order: dict[str, Any]) -> Optional[int]:
    """The raw wait status, given as such or as `killed by signal 9`, `exit status 1`."""
    status = order.get("status")
    if status is not None:
        return int(status)
    words = str(order.get("how", "")).replace(",", " ").split()
    for name, shift in (("signal", 0), ("status", 8)):
        if name in words[:-1] and words[words.index(name) + 1].isdigit():
            return int(words[words.index(name) + 1]) << shift
    return None
