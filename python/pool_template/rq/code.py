"""RQ's own code as the options name it: its classes, its serializer, and a worker object that lives in the pool.

Imported in the template, so that all workers share it. Nothing here speaks to Redis.
"""

from __future__ import annotations

import os
import select
from datetime import datetime
from types import FunctionType
from typing import Any, Iterable, Optional

import rq
from redis import Redis
from redis.backoff import AbstractBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MasterDownError, OutOfMemoryError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry as RedisRetry
from rq.serializers import resolve_serializer
from rq.utils import import_attribute, now

from pool_template.jobs import lineage
from pool_template.rq.sentinel import Sentinels
from pool_template.rq.settings import RqSettings

_RQ_DIRECTORY = os.path.dirname(os.path.abspath(rq.__file__)) + os.sep
#: What a worker's end of a job goes through; a queue class that changes one of them finishes its jobs itself.
_QUEUE_LIFECYCLE = (
    "_enqueue_job",
    "enqueue_dependents",
    "enqueue_job",
    "enqueue_ready_jobs_by_queue",
    "move_dependents_to_ready",
    "push_job_id",
    "schedule_job",
)
#: What runs inside `Job.perform`, and may be a job class's own, since it is called.
_JOB_RUN = ("perform", "_execute", "func")
#: Redis may be away for a while: a job that has run must not be lost for it. Four minutes, beside what tries take.
_RETRIES = 240
_BACKOFF_S, _BACKOFF_S_MAX = 0.1, 1.0
_SERIALIZERS = {"pickle": None, "json": "rq.serializers.JSONSerializer"}


class _Backoff(AbstractBackoff):
    """A connection that was cut is made anew at once; then the waits double, up to one that no job minds."""

    def compute(self, failures: int) -> float:
        if failures <= 1:
            return 0.0
        return min(_BACKOFF_S_MAX, _BACKOFF_S * 2.0 ** (failures - 2))


class _Patience(RedisRetry):
    """Waits for a server that refuses for now (as in a failover) as for one that is away.

    Each connection has its own. redis-py connects again within a call that is tried again, by the same rules:
    the call's are enough, or the tries would multiply.
    """

    _is_trying = False

    def call_with_retry(self, do: Any, fail: Any, *args: Any, **kwargs: Any) -> Any:
        if self._is_trying:
            return do()
        def attempt() -> Any:
            try:
                return do()
            except ResponseError as error:
                if not _refuses_for_now(error):
                    raise
                # The backoff of those who have none: RQ repeats at once a transaction whose watch was lost.
                select.select((), (), (), _BACKOFF_S)
                raise RedisConnectionError(str(error)) from error

        self._is_trying = True
        try:
            return super().call_with_retry(attempt, fail, *args, **kwargs)
        finally:
            self._is_trying = False


def _refuses_for_now(error: ResponseError) -> bool:
    if isinstance(error, (ReadOnlyError, OutOfMemoryError, MasterDownError)):
        return True
    return any(f"{word} " in str(error) for word in ("NOREPLICAS", "MISCONF", "BUSY", "UNBLOCKED"))


class InPool:
    """A worker class's part that differs in a pool, where the supervisor registers, forks, stops and watches."""

    #: When the function began, if it ran before RQ's code came to know of the job.
    pool_ran_since: Optional[datetime] = None
    #: Whether somebody has changed what happens before a job.
    pool_prepares = False

    def procline(self, message: str) -> None:
        """The process title is the pool's."""

    def prepare_job_execution(self, job: Any, *_: Any, **__: Any) -> None:
        """The broker has said that the job starts."""
        if self.pool_prepares and self.pool_ran_since is None:
            super().prepare_job_execution(job)  # type: ignore[misc]

    def handle_execution_ended(self, job: Any, *_: Any, **__: Any) -> None:
        """The first step after the function. A process that the job forked does not come further. What RQ sends here is
        written again with the outcome."""
        if lineage.is_child:
            lineage.end_child(None)
        if self.pool_ran_since is not None:
            job.started_at = self.pool_ran_since
        job.ended_at = job.last_heartbeat = now()

    def increment_successful_job_count(self, pipeline: Any = None) -> None:
        """Counts, also for a worker that the broker has not registered yet; nothing of it must stay for ever."""
        super().increment_successful_job_count(pipeline=pipeline)  # type: ignore[misc]
        self._pool_expire(pipeline)

    def increment_failed_job_count(self, pipeline: Any = None) -> None:
        """As `increment_successful_job_count`."""
        super().increment_failed_job_count(pipeline=pipeline)  # type: ignore[misc]
        self._pool_expire(pipeline)

    def _pool_expire(self, pipeline: Any) -> None:
        connection = self.connection if pipeline is None else pipeline  # type: ignore[attr-defined]
        connection.expire(self.key, self.worker_ttl + 60)  # type: ignore[attr-defined]


_OURS = ("__init__", *(name for name in vars(InPool) if not name.startswith("__")))


class RqCode:
    """RQ's classes and functions as the options name them."""

    def __init__(self, settings: RqSettings) -> None:
        self.settings = settings
        self._sentinels = settings.sentinel and Sentinels(settings.sentinel)
        self.job_class: Any = _import_class(settings.job_class, rq.job.Job)
        self.queue_class: Any = _import_class(settings.queue_class, rq.Queue)
        jobs, queues = settings.job_key_prefix, settings.queue_key_prefix
        _check_keys(self.job_class, jobs, rq.job.Job, "redis_job_namespace_prefix", "job_key_prefix")
        _check_keys(self.queue_class, queues, rq.Queue, "redis_queue_namespace_prefix", "queue_key_prefix")
        worker_class = _import_class(settings.worker_class, rq.Worker)
        self.worker_class: Any = type(worker_class.__name__, (InPool, worker_class), {})
        self.worker_class.pool_prepares = not _is_of_rq(worker_class.prepare_job_execution)
        self.serializer = resolve_serializer(_SERIALIZERS.get(settings.serializer or "pickle", settings.serializer))
        self.handlers = [import_attribute(name) for name in settings.exception_handlers]
        #: Whether somebody is to be told of exceptions. (A worker class may bring handlers of its own.)
        self.has_handlers = bool(self.worker("", [], self.connect())._exc_handlers)
        self.look()

    def look(self) -> None:
        """Looks whether RQ's code is RQ's own: no class of the user's, and no patch of a tracer's or an error tracker's,
        stands in it. Hooks may change that."""
        ends = [
            *_functions(self.worker_class, but=_OURS),
            *_functions(self.job_class, but=_JOB_RUN, known=rq.job.Job),
            *(getattr(self.queue_class, name, None) for name in _QUEUE_LIFECYCLE),
        ]
        #: Whether what RQ does around `Job.perform` is RQ's own. Then the broker can do the same.
        self.ends_stock = all(_is_of_rq(function) for function in ends)
        #: Whether `Job.perform` is so, too. Then the function alone is called.
        self.is_stock = self.ends_stock and all(_is_of_rq(function) for function in _functions(self.job_class))

    def connect(self) -> Redis:
        """A client that connects when it is first used, and waits for a Redis that is away."""
        settings = self.settings
        options: dict[str, Any] = {
            **settings.connection,
            "retry": _Patience(_Backoff(), _RETRIES),
            "retry_on_error": [RedisConnectionError, RedisTimeoutError],
        }
        if self._sentinels is None:
            return Redis.from_url(settings.url, **options)
        from redis.connection import parse_url

        target = {**parse_url(settings.url), **options}
        for fixed in ("host", "port", "path", "connection_class"):
            target.pop(fixed, None)
        return self._sentinels.master(settings.url.startswith("rediss:"), **target)

    def worker(self, name: str, queues: list[str], connection: Redis) -> Any:
        """A worker object of this name that serves these queues. Says nothing to Redis."""
        settings = self.settings
        given = {
            "default_result_ttl": settings.results_ttl,
            "worker_ttl": settings.worker_ttl,
            "job_monitoring_interval": settings.job_monitoring_interval,
        }
        return self.worker_class(
            [self.queue(queue, connection) for queue in queues],
            name=name,
            connection=connection,
            job_class=self.job_class,
            queue_class=self.queue_class,
            exception_handlers=self.handlers or None,
            disable_default_exception_handler=settings.disable_default_exception_handler,
            log_job_description=not settings.disable_job_desc_logging,
            serializer=self.serializer,
            prepare_for_work=False,
            **{option: value for option, value in given.items() if value is not None},
        )

    def queue(self, name: str, connection: Redis) -> Any:
        """A queue object."""
        return self.queue_class(name, connection=connection, job_class=self.job_class, serializer=self.serializer)


def _import_class(name: Optional[str], default: Any) -> Any:
    return import_attribute(name) if name else default


def _check_keys(given: Any, said: Optional[str], stock: Any, name: str, setting: str) -> None:
    """The supervisor claims and settles without asking Python, so it must know the keys."""
    known = said if said is not None else getattr(stock, name, None)
    theirs = getattr(given, name, None)
    if known != theirs:
        kind = f"{given.__module__}.{given.__qualname__}"
        raise ValueError(
            f"`{kind}` keeps its keys under {theirs!r}, and the supervisor looks under {known!r}: "
            f"set `rq.{setting}` to {theirs!r}"
        )


def _functions(kind: type, but: Iterable[str] = (), known: Optional[type] = None) -> Iterable[Any]:
    """All that can be called in a class and those that it inherits from, except `object`. `known`: only what this class
    has, too."""
    for base in kind.__mro__:
        for name, value in vars(base).items():
            if name not in but and base is not object and (known is None or hasattr(known, name)):
                yield getattr(value, "fget", None) or getattr(value, "__func__", value)


def _is_of_rq(value: Any) -> bool:
    """Whether it is a function of RQ's own, or none at all. A wrapper may pretend to be what it wraps."""
    if type(value) is FunctionType:
        return value.__code__.co_filename.startswith(_RQ_DIRECTORY)
    return not hasattr(value, "__wrapped__")
