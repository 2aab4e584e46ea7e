"""Handles on what was enqueued: a job, a group."""

from __future__ import annotations

from typing import Any, Generator, Generic, List, Optional, TypeVar, cast

from poolhouse.connection import Connection
from poolhouse.duration import Duration, seconds
from poolhouse.errors import JobCanceled, JobFailed, JobUnknown, PoolhouseError
from poolhouse.model import Canceled, GroupView, JobView, State
from poolhouse.threads import in_thread

R = TypeVar("R")


class Job(Generic[R]):
    """A job that was enqueued. Methods that begin with `a` are for coroutines, and so is `await job`, its result."""

    __slots__ = ("_connection", "id", "is_new")

    def __init__(self, connection: Connection, id: str, is_new: bool = True) -> None:
        self._connection = connection
        #: Its id.
        self.id = id
        #: False: its key was held by this job, which had not ended, and nothing was enqueued.
        self.is_new = is_new

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def result(self, timeout: Optional[Duration] = None) -> R:
        """Sleeps until the job has ended, and returns what it returned.

        Raises `JobFailed`, or `JobCanceled`; `JobUnknown`, also when its result has expired; `TimeoutError` when the time
        is up, and the job goes on.
        """
        return cast(R, _result(self.id, self._connection.broker().wait(self.id, _limit(timeout))))

    async def aresult(self, timeout: Optional[Duration] = None) -> R:
        """See `result`."""
        view = await self._connection.broker().wait_async(self.id, _limit(timeout))
        return cast(R, _result(self.id, view))

    def __await__(self) -> Generator[Any, None, R]:
        return self.aresult().__await__()

    def view(self) -> JobView:
        """The job as it is now. Raises `JobUnknown`."""
        (view,) = self._connection.broker().find([self.id])
        if view is None:
            raise JobUnknown(self.id)
        return view

    async def aview(self) -> JobView:
        """See `view`."""
        return await in_thread(self.view)

    @property
    def state(self) -> State:
        """Where it is now: "waiting", "blocked", "scheduled", "deferred", "running", "finished", "dead" or "canceled".

        Raises `JobUnknown`.
        """
        return self.view().state

    def cancel(self, running: bool = False) -> Canceled:
        """Takes it out before it begins. With `running`, it is stopped for good if it runs."""
        return self._connection.broker().cancel([self.id], running)[0]

    def stop(self) -> Canceled:
        """Takes it out before it begins, or stops it for good if it runs: its worker is killed."""
        return self.cancel(running=True)

    async def astop(self) -> Canceled:
        """See `stop`."""
        return await in_thread(self.stop)

    async def acancel(self, running: bool = False) -> Canceled:
        """See `cancel`."""
        return await in_thread(self.cancel, running)


class Group:
    """A group of jobs that was enqueued."""

    __slots__ = ("_connection", "id")

    def __init__(self, connection: Connection, id: str) -> None:
        self._connection = connection
        #: Its id.
        self.id = id

    def __repr__(self) -> str:
        return f"Group({self.id!r})"

    def view(self) -> GroupView:
        """How far it is. Raises `PoolhouseError` if it is unknown or has expired."""
        return self._known(self._connection.broker().find_group(self.id))

    def members(self) -> List[Job[Any]]:
        """Its jobs in their order, without those that kept no result."""
        return [Job(self._connection, id) for id in self._connection.broker().group_members(self.id)]

    def wait(self, timeout: Optional[Duration] = None) -> GroupView:
        """Sleeps until all members have ended, well or not. Raises `TimeoutError`."""
        return self._known(self._connection.broker().wait_group(self.id, _limit(timeout)))

    async def await_all(self, timeout: Optional[Duration] = None) -> GroupView:
        """See `wait`."""
        return self._known(await self._connection.broker().wait_group_async(self.id, _limit(timeout)))

    def results(self, timeout: Optional[Duration] = None, return_exceptions: bool = False) -> List[Any]:
        """Sleeps until all members have ended, and returns what they returned, in their order.

        Raises what the first member that failed raises; with `return_exceptions` that stands in its place.
        """
        self.wait(timeout)
        return self._results(return_exceptions)

    async def aresults(self, timeout: Optional[Duration] = None, return_exceptions: bool = False) -> List[Any]:
        """See `results`."""
        await self.await_all(timeout)
        return await in_thread(self._results, return_exceptions)

    def __await__(self) -> Generator[Any, None, List[Any]]:
        return self.aresults().__await__()

    def _results(self, return_exceptions: bool) -> List[Any]:
        broker = self._connection.broker()
        ids = broker.group_members(self.id)
        results: List[Any] = []
        for id, view in zip(ids, broker.find(ids)):
            try:
                results.append(_result(id, view))
            except PoolhouseError as error:
                if not return_exceptions:
                    raise
                results.append(error)
        return results

    def _known(self, view: Optional[GroupView]) -> GroupView:
        if view is None:
            raise PoolhouseError(f"group `{self.id}` is unknown: it never was, or it has expired")
        return view


def _result(id: str, view: Optional[JobView]) -> Any:
    if view is None:
        raise JobUnknown(id)
    if view.state is State.FINISHED:
        return view.result
    if view.error is None:
        raise JobFailed(id, "failed", "")
    kind = JobCanceled if view.error.is_cancellation else JobFailed
    raise kind(id, view.error.kind, view.error.message, view.error.detail)


def _limit(timeout: Optional[Duration]) -> Optional[float]:
    return None if timeout is None else seconds(timeout, "timeout")
