"""`Pool`: what an application makes once, to define tasks and to enqueue jobs."""

from __future__ import annotations

import math
from datetime import datetime
from typing import (
    TYPE_CHECKING,
    Any,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Protocol,
    Tuple,
    Union,
    overload,
)

from poolhouse import payload
from poolhouse.connection import Connection
from poolhouse.duration import Duration
from poolhouse.errors import Refused
from poolhouse.filter import JobFilter, States
from poolhouse.ids import new_id, new_ids
from poolhouse.job import Group, Job
from poolhouse.model import Canceled, JobView, NewGroup, NewJob, State, check_name
from poolhouse.options import OptionArguments, Options
from poolhouse.task import J, P, R, Signature, Task, signature_of
from poolhouse.threads import in_thread

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: Jobs that are looked at, canceled or deleted in one step.
_STEP = 500
#: Where jobs are that have not begun.
_NOT_BEGUN = (State.WAITING, State.BLOCKED, State.SCHEDULED, State.DEFERRED)


class _Decorator(Protocol):
    """What `Pool.task` returns when it is given options."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, J]], /) -> Task[P, Coroutine[Any, Any, J], J]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R, R]: ...


class Pool:
    """Where tasks are defined and jobs enqueued. Nothing is opened before the first job.

    `broker` is a URL: `sqlite:PATH`, or `redis://HOST:6379/0` and its kin (docs/client.md says what that needs). Without it
    the broker is the one that the command `pool` uses in the same directory: `POOL_BROKER`, the file `pool.toml`, a default.

    `fsync`: each job is on the disk before `enqueue` returns; slower. `max_payload`: largest arguments of a job, in bytes.
    """

    def __init__(
        self, broker: Optional[str] = None, *, fsync: Optional[bool] = None, max_payload: Optional[int] = None
    ) -> None:
        if broker is not None and not isinstance(broker, str):
            raise TypeError(f"the broker is {broker!r}; expected a URL, such as \"sqlite:jobs.db\"")
        if max_payload is not None and (not isinstance(max_payload, int) or max_payload < 1):
            raise ValueError(f"max_payload is {max_payload!r}; expected a number of bytes, 1 or more")
        self._connection = Connection(broker, fsync, max_payload)

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, J]], /) -> Task[P, Coroutine[Any, Any, J], J]: ...

    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R, R]: ...

    @overload
    def task(
        self,
        /,
        *,
        queue: Optional[str] = None,
        timeout: Optional[Duration] = None,
        retries: Optional[int] = None,
        result_ttl: Optional[Duration] = None,
        expires: Optional[Duration] = None,
        limit: Optional[Tuple[str, int]] = None,
    ) -> _Decorator: ...

    def task(
        self,
        function: Optional[Callable[..., Any]] = None,
        /,
        *,
        queue: Optional[str] = None,
        timeout: Optional[Duration] = None,
        retries: Optional[int] = None,
        result_ttl: Optional[Duration] = None,
        expires: Optional[Duration] = None,
        limit: Optional[Tuple[str, int]] = None,
    ) -> Any:
        """Makes a function a task: `@pool.task`, or `@pool.task(queue="images", timeout="30s", retries=3)`.

        The options hold for jobs that are enqueued through the task. Raises `ValueError` for one that can't be.
        """
        defaults = Options(
            queue=queue, timeout=timeout, retries=retries, result_ttl=result_ttl, expires=expires, limit=limit
        )

        def make(function: Callable[..., Any]) -> Task[Any, Any, Any]:
            return Task(self._connection, function, defaults)

        return make if function is None else make(function)

    def signature(self, task: str, arguments: Any = None, **options: Unpack[OptionArguments]) -> Signature[Any]:
        """A call of a task by its name, not enqueued yet. `arguments`: a dict of keyword arguments, a list of positional
        ones, or one other value."""
        encoded = b"" if arguments is None else payload.encode(arguments, f"the arguments of `{task}`")
        return Signature(self._connection, task, encoded, Options().having(options).checked(task))

    def send(self, task: str, arguments: Any = None, **options: Unpack[OptionArguments]) -> Job[Any]:
        """Enqueues a job of a task by its name: `pool.send("shop.resize", {"path": "a.png"}, delay="5m")`."""
        return self.signature(task, arguments, **options).enqueue()

    async def asend(self, task: str, arguments: Any = None, **options: Unpack[OptionArguments]) -> Job[Any]:
        """See `send`."""
        return await self.signature(task, arguments, **options).aenqueue()

    def enqueue_many(self, calls: Iterable[Signature[Any]]) -> List[Job[Any]]:
        """Enqueues many jobs, all or none. (For many jobs of one task, `Task.enqueue_many` is quicker.)"""
        jobs = _jobs(calls)
        done = self._connection.broker().enqueue(jobs)
        return [Job(self._connection, each.id, each.is_new) for each in done]

    async def aenqueue_many(self, calls: Iterable[Signature[Any]]) -> List[Job[Any]]:
        """See `enqueue_many`."""
        return await in_thread(self.enqueue_many, list(calls))

    def group(
        self,
        calls: Iterable[Signature[Any]],
        *,
        on_done: Optional[Signature[Any]] = None,
        on_failure: Optional[Signature[Any]] = None,
        id: Optional[str] = None,
    ) -> Group:
        """Enqueues jobs that run at the same time, all or none.

        `on_done` runs once, when all have ended, well or not; `on_failure` once, as soon as the first has failed for good.
        Both get a summary, as docs/flow.md says.
        """
        jobs = _jobs(calls)
        callbacks = (on_done, on_failure)
        done, failure = (None if call is None else signature_of(call).follower() for call in callbacks)
        group = NewGroup(new_id() if id is None else id, jobs, done, failure)
        self._connection.broker().enqueue_group(group)
        return Group(self._connection, group.id)

    async def agroup(self, calls: Iterable[Signature[Any]], **options: Any) -> Group:
        """See `group`."""
        return await in_thread(self.group, list(calls), **options)

    def get_job(self, id: str) -> Job[Any]:
        """A handle on the job with this id; nothing is asked of the broker."""
        return Job(self._connection, _text(id))

    def get_group(self, id: str) -> Group:
        """A handle on the group with this id; nothing is asked of the broker."""
        return Group(self._connection, _text(id))

    def jobs(
        self,
        *,
        state: States = None,
        queue: Optional[str] = None,
        task: Optional[str] = None,
        error: Optional[str] = None,
        arguments: Optional[Mapping[str, Any]] = None,
        since: Union[Duration, datetime, None] = None,
        limit: Optional[int] = None,
    ) -> Iterator[JobView]:
        """Finds jobs: `for job in pool.jobs(state="dead", error="timeout", since="1h", limit=100)`.

        `state`: one of `State`, or several of them. `error`: a text that the error has somewhere. `arguments`: values
        that the arguments have, by their paths: `{"order.id": 42, "items.0": "a"}`. `since`: jobs that ended since then, or
        were enqueued then if they have not ended.

        Goes on as it is asked, some hundred jobs at a time: running jobs first, then those that wait, and the newest of each
        state first. Jobs that move meanwhile may be missed or come twice. Stop it by `limit`, or by leaving the loop.
        """
        filter = JobFilter.of(state, queue, task, error, since, arguments)
        left, after = _limit(limit), None
        while left > 0:
            found, after = self._page(filter, after)
            yield from found[: int(min(left, len(found)))]
            left -= len(found)
            if after is None:
                return

    async def ajobs(
        self,
        *,
        state: States = None,
        queue: Optional[str] = None,
        task: Optional[str] = None,
        error: Optional[str] = None,
        arguments: Optional[Mapping[str, Any]] = None,
        since: Union[Duration, datetime, None] = None,
        limit: Optional[int] = None,
    ) -> AsyncIterator[JobView]:
        """See `jobs`: `async for job in pool.ajobs(state="dead")`."""
        filter = JobFilter.of(state, queue, task, error, since, arguments)
        left, after = _limit(limit), None
        while left > 0:
            found, after = await in_thread(self._page, filter, after)
            for view in found[: int(min(left, len(found)))]:
                yield view
            left -= len(found)
            if after is None:
                return

    def _page(self, filter: JobFilter, after: Any) -> Tuple[List[JobView], Any]:
        """What some steps of a search find, as it is by then, and where to go on."""
        broker = self._connection.broker()
        ids, after = broker.search(filter, _STEP, after)
        views = broker.find(ids) if ids else []
        return [view for view in views if view is not None and filter.matches_all(view)], after

    def cancel(self, *, queue: Optional[str] = None, task: Optional[str] = None) -> int:
        """Cancels all jobs of a queue, of a task, or of both, that have not begun. Returns how many never run.

        In steps: what was canceled stays so if this ends early. `Job.cancel` cancels one.
        """
        if queue is None and task is None:
            raise Refused("cancel needs a queue, a task, or both")
        broker = self._connection.broker()
        filter = JobFilter.of(_NOT_BEGUN, queue, task)
        canceled, after = 0, None
        while True:
            ids, after = broker.search(filter, _STEP, after)
            answers = broker.cancel(ids, False) if ids else []
            canceled += sum(answer in (Canceled.DONE, Canceled.ASKED) for answer in answers)
            if after is None:
                return canceled

    async def acancel(self, *, queue: Optional[str] = None, task: Optional[str] = None) -> int:
        """See `cancel`."""
        return await in_thread(lambda: self.cancel(queue=queue, task=task))

    def purge(self, queue: str, *, scheduled: bool = False) -> int:
        """Deletes all jobs that wait in a queue, with `scheduled` also those that are due later. They leave no record.
        Returns how many there were."""
        broker = self._connection.broker()
        deleted = 0
        for is_scheduled in (False, True) if scheduled else (False,):
            gone = _STEP
            while gone >= _STEP:
                gone = broker.purge(check_name(queue, "the queue's name"), is_scheduled, _STEP)
                deleted += gone
        return deleted

    async def apurge(self, queue: str, *, scheduled: bool = False) -> int:
        """See `purge`."""
        return await in_thread(lambda: self.purge(queue, scheduled=scheduled))

    def close(self) -> None:
        """Closes the connection to the broker; the next job opens it again."""
        self._connection.close()


def _jobs(calls: Iterable[Signature[Any]]) -> List[NewJob]:
    """With ids in the order of the calls."""
    calls = [signature_of(call) for call in calls]
    return [call.job(id) for call, id in zip(calls, new_ids(len(calls)))]


def _limit(limit: Optional[int]) -> float:
    if limit is None:
        return math.inf
    if not isinstance(limit, int) or limit < 0:
        raise Refused(f"limit is {limit!r}; expected a whole number, 0 or more")
    return limit


def _text(id: Union[str, object]) -> str:
    if not isinstance(id, str):
        raise Refused(f"an id is {id!r}; expected a text")
    return id
