"""What a broker does for the client; one module or package for each. `brokers` opens the one that a URL names."""

from __future__ import annotations

from typing import Any, List, Optional, Protocol, Sequence, Tuple

from poolhouse.filter import JobFilter
from poolhouse.model import Canceled, Enqueued, GroupView, JobView, NewGroup, NewJob


class Broker(Protocol):
    """Adds jobs, and tells what became of them. Any thread may call it; each call raises `BrokerError` if it can't be met.

    Limits in seconds; None: no limit.
    """

    def enqueue(self, jobs: Sequence[NewJob]) -> List[Enqueued]:
        """Adds jobs, all or none; one answer a job, in order."""
        ...

    def enqueue_group(self, group: NewGroup) -> None:
        """Adds a group, all or nothing."""
        ...

    def enqueue_chain(self, jobs: Sequence[NewJob]) -> None:
        """Adds jobs that run one after the other, each with the result of the one before it."""
        ...

    def find(self, ids: Sequence[str]) -> List[Optional[JobView]]:
        """One answer an id, in order. None: it is unknown, or has expired."""
        ...

    def cancel(self, ids: Sequence[str], running: bool) -> List[Canceled]:
        """Takes jobs out before they begin; with `running`, those that run are stopped for good. One answer a job."""
        ...

    def search(self, filter: JobFilter, most: int, after: Any = None) -> Tuple[List[str], Any]:
        """Looks at some jobs, `most` at the most, the newest of each place first: the ids of those that match, and where to
        go on; None: all were looked at. What is taken out in between hides no others."""
        ...

    def purge(self, queue: str, scheduled: bool, most: int) -> int:
        """Deletes some jobs that wait in a queue, or are due later; how many. Fewer than `most`: nothing is left."""
        ...

    def wait(self, id: str, limit: Optional[float]) -> Optional[JobView]:
        """Waits until a job has ended; None if it is unknown. Raises `TimeoutError` when the time is up."""
        ...

    async def wait_async(self, id: str, limit: Optional[float]) -> Optional[JobView]:
        """The same without blocking the event loop."""
        ...

    def find_group(self, id: str) -> Optional[GroupView]:
        """How far a group is; None if it is unknown or has expired."""
        ...

    def group_members(self, id: str) -> List[str]:
        """The members of a group in their order, without those that left no result."""
        ...

    def wait_group(self, id: str, limit: Optional[float]) -> Optional[GroupView]:
        """Waits until all members have ended; None if the group is unknown. Raises `TimeoutError`."""
        ...

    async def wait_group_async(self, id: str, limit: Optional[float]) -> Optional[GroupView]:
        """The same without blocking the event loop."""
        ...

    def close(self) -> None:
        """Lets go of what is open."""
        ...
