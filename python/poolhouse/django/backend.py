"""The backend of Django's tasks."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Callable, Dict, Iterable, Sequence

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction

from poolhouse.connection import Connection
from poolhouse.django.options import Entry, in_lines
from poolhouse.django.results import arguments_of, instant, result_of
from poolhouse.django.running import PoolTask
from poolhouse.django.tasks import BaseTaskBackend, TaskResult, TaskResultDoesNotExist, TaskResultStatus, signals
from poolhouse.ids import new_id
from poolhouse.model import NewJob
from poolhouse.options import Options


class PoolBackend(BaseTaskBackend):  # type: ignore[misc]
    """Enqueues tasks for a pool. docs/django.md names its options."""

    task_class = PoolTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True

    def __init__(self, alias: str, params: Dict[str, Any]) -> None:
        self._entry = Entry(alias, params)
        options = self._entry.options
        super().__init__(alias, {**params, "QUEUES": self._entry.queues})
        #: The broker's URL; None: as the command `pool` finds it.
        self.broker_url = options["BROKER"]
        self._connection = Connection(self.broker_url, options["FSYNC"], None)
        self._job_options = Options(
            timeout=options["TIMEOUT"],
            retries=options["RETRIES"],
            result_ttl=options["RESULT_TTL"],
            expires=options["EXPIRES"],
            limit=options["LIMIT"],
        )
        self._on_commit, self._database = options["ENQUEUE_ON_COMMIT"], options["DATABASE"]

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Dict[str, Any]) -> Any:
        """Enqueues a task. Within a transaction of the database that happens when it commits."""
        self._refuse_errors()
        self.validate_task(task)
        result = TaskResult(
            task=task,
            id=new_id(),
            status=TaskResultStatus.READY,
            enqueued_at=None,
            started_at=None,
            finished_at=None,
            last_attempted_at=None,
            args=list(args),
            kwargs=kwargs,
            backend=self.alias,
            errors=[],
            worker_ids=[],
        )
        options = replace(self._job_options, queue=task.queue_name, at=task.run_after)
        # As normalized: with lists for tuples, and the like.
        arguments = arguments_of(result.args, result.kwargs, task.module_path)
        job = options.job(task.module_path, arguments, result.id)
        self._when_committed(partial(self._send, job, result))
        return result

    def get_result(self, result_id: str) -> Any:
        """What became of a task. Raises `TaskResultDoesNotExist`."""
        self._refuse_errors()
        (view,) = self._connection.broker().find([result_id])
        if view is None:
            raise TaskResultDoesNotExist(result_id)
        return result_of(view, self.alias)

    def check(self, **kwargs: Any) -> Iterable[checks.CheckMessage]:
        """What is wrong with the settings, for Django's system checks: `manage.py check`."""
        yield from super().check(**kwargs)
        yield from self._entry.check()

    def close(self) -> None:
        """Closes the connection to the broker; the next task opens it again."""
        self._connection.close()

    def _refuse_errors(self) -> None:
        """Not when it is made: that is before the checks, which tell all of them."""
        if self._entry.errors:
            raise ImproperlyConfigured(in_lines(self._entry.errors))

    def _when_committed(self, send: Callable[[], None]) -> None:
        if self._on_commit and connections[self._database].in_atomic_block:
            transaction.on_commit(send, using=self._database)
        else:
            send()

    def _send(self, job: NewJob, result: Any) -> None:
        (enqueued,) = self._connection.broker().enqueue([job])
        object.__setattr__(result, "enqueued_at", instant(enqueued.at))
        signals.task_enqueued.send(type(self), task_result=result)
