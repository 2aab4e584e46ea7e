"""The embedded broker: jobs in one SQLite file, through the standard library's `sqlite3`.

- `database`: the file, its schema, its transactions; `bell`, `inotify`: how processes wake each other;
- `produce`, `control`, `flow`: adding and canceling jobs, and what that means for others;
- `read`, `search`, `waiters`: looking up, looking through, and waiting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, Optional, Sequence, Tuple, TypeVar

from poolhouse import check
from poolhouse.filter import JobFilter
from poolhouse.model import Canceled, Enqueued, GroupView, JobView, NewGroup, NewJob
from poolhouse.sqlite import control, produce, read, search
from poolhouse.sqlite.database import Database
from poolhouse.sqlite.flow import RESULT_TTL_MS
from poolhouse.sqlite.waiters import Waiters

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")


class SqliteBroker:
    """See `broker.Broker`."""

    def __init__(self, path: str, *, fsync: bool, payload_len_max: int, result_ttl_ms: Optional[int]) -> None:
        self._database = Database(path, fsync)
        self._waiters = Waiters(self._database)
        self._payload_len_max = payload_len_max
        self._result_ttl_ms = RESULT_TTL_MS if result_ttl_ms is None else result_ttl_ms

    def enqueue(self, jobs: Sequence[NewJob]) -> List[Enqueued]:
        """See `broker.Broker`."""
        check.jobs(jobs, self._payload_len_max)
        with self._database.write() as transaction:
            return produce.enqueue(transaction, jobs)

    def enqueue_group(self, group: NewGroup) -> None:
        """See `broker.Broker`."""
        check.group(group, self._payload_len_max)
        with self._database.write() as transaction:
            produce.enqueue_group(transaction, group)

    def enqueue_chain(self, jobs: Sequence[NewJob]) -> None:
        """See `broker.Broker`."""
        check.chain(jobs, self._payload_len_max)
        with self._database.write() as transaction:
            produce.enqueue_chain(transaction, jobs)

    def find(self, ids: Sequence[str]) -> List[Optional[JobView]]:
        """See `broker.Broker`."""
        with self._database.read() as connection:
            found = [read.find(connection, id) for id in ids]
        return [None if each is None else each[1] for each in found]

    def cancel(self, ids: Sequence[str], running: bool) -> List[Canceled]:
        """See `broker.Broker`."""
        with self._database.write() as transaction:
            return [control.cancel(transaction, id, running, self._result_ttl_ms) for id in ids]

    def search(self, filter: JobFilter, most: int, after: Any = None) -> Tuple[List[str], Any]:
        """See `broker.Broker`."""
        with self._database.read() as connection:
            return search.search(connection, filter, most, after)

    def purge(self, queue: str, scheduled: bool, most: int) -> int:
        """See `broker.Broker`."""
        with self._database.write() as transaction:
            return control.purge(transaction, queue, scheduled, most, self._result_ttl_ms)

    def wait(self, id: str, limit: Optional[float]) -> Optional[JobView]:
        """See `broker.Broker`."""
        (view,) = self.find([id])
        if view is None or view.state.is_final:
            return view
        return _wait(self._waiters.job(id), limit, f"job `{id}`")

    async def wait_async(self, id: str, limit: Optional[float]) -> Optional[JobView]:
        """See `broker.Broker`."""
        return await _wait_async(self._waiters.job(id), limit, f"job `{id}`")

    def find_group(self, id: str) -> Optional[GroupView]:
        """See `broker.Broker`."""
        with self._database.read() as connection:
            return read.find_group(connection, id)

    def group_members(self, id: str) -> List[str]:
        """See `broker.Broker`."""
        with self._database.read() as connection:
            return read.group_members(connection, id)

    def wait_group(self, id: str, limit: Optional[float]) -> Optional[GroupView]:
        """See `broker.Broker`."""
        return _wait(self._waiters.group(id), limit, f"group `{id}`")

    async def wait_group_async(self, id: str, limit: Optional[float]) -> Optional[GroupView]:
        """See `broker.Broker`."""
        return await _wait_async(self._waiters.group(id), limit, f"group `{id}`")

    def close(self) -> None:
        """See `broker.Broker`."""
        self._waiters.close()
        self._database.close()


def _wait(future: Future[T], limit: Optional[float], what: str) -> T:
    from concurrent.futures import TimeoutError as NotYet

    try:
        return future.result(limit)
    except NotYet:
        if not future.cancel() and future.done():
            return future.result()  # it ended at the same moment
        raise TimeoutError(f"{what} has not ended within {limit:g} s; it goes on") from None
    except BaseException:
        future.cancel()
        raise


async def _wait_async(future: Future[T], limit: Optional[float], what: str) -> T:
    import asyncio

    try:
        return await asyncio.wait_for(asyncio.wrap_future(future), limit)
    except asyncio.TimeoutError:
        raise TimeoutError(f"{what} has not ended within {limit:g} s; it goes on") from None
