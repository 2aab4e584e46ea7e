"""Jobs in Redis as RQ writes them, for pools of the rq runtime and for RQ's own workers. Needs `rq` 2.10 or newer.

RQ makes the jobs and reads them. They are added and canceled by the scripts of the program `pool` (`src/broker/rq/lua`): all
of a call or none, and with its answers.

- `rows`: jobs on their way to Redis; `look`: what became of them; `search`: looking through them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pkgutil
import threading
import time
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple
from urllib.parse import urlsplit

try:
    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import RedisError
    from redis.exceptions import TimeoutError as RedisTimeoutError
    from rq.serializers import resolve_serializer
    from rq.utils import now, utcformat
except ImportError as error:
    from poolhouse.errors import PoolhouseError

    raise PoolhouseError(f"a broker at Redis needs the package `rq` ({error}): pip install rq") from error

from poolhouse import check
from poolhouse.errors import BrokerError, BrokerUnreachable, IdTaken, PoolhouseError, Refused
from poolhouse.filter import JobFilter
from poolhouse.model import Canceled, Enqueued, GroupView, JobView, NewGroup, NewJob, State
from poolhouse.place import shown
from poolhouse.rq.look import Look, newest, results_key
from poolhouse.rq.rows import NAMES, PREFIX, Rows, publish_stop
from poolhouse.rq.search import Search

#: A blocking read is renewed after this time, and its jobs are looked at again: a job that is canceled or deleted, or that
#: keeps no result, wakes nobody.
_READ_MS = 60_000
#: How long an answer may take beyond that, in seconds.
_ANSWER_S = 15
_TIMEOUTS: Dict[str, Any] = {
    "socket_timeout": _READ_MS / 1000 + _ANSWER_S,
    "socket_connect_timeout": _ANSWER_S,
}
#: How long the server may be away from a wait, and the pauses between two tries, in seconds: as for `pool wait`.
_AWAY_S = 60.0
_PAUSE_S, _PAUSE_S_MAX = 0.05, 1.0
#: Members that a job may depend on: whenever one of them ends, RQ looks at all the others.
_DEPENDENCIES_MAX = 1_000
#: What the script says in place of an id when there is a group of this name.
_GROUP_TAKEN = "\n"
_log = logging.getLogger("poolhouse")


class RqBroker:
    """See `broker.Broker`."""

    def __init__(self, url: str, *, payload_len_max: int) -> None:
        self._name = shown(url)
        self._payload_len_max = payload_len_max
        self._url = url.replace("redis+unix:", "unix:", 1)
        try:
            _check_database(self._url)
            self._redis = Redis.from_url(self._url, **_TIMEOUTS)
            connections = self._redis.connection_pool
            connections.connection_class(**connections.connection_kwargs)  # that connects to nobody, and knows its options
        except (TypeError, ValueError) as error:
            raise BrokerError(f"cannot use the broker at {self._name}: {error}") from None
        #: A server that has answered once may be away from a wait for a while.
        self._has_answered = False
        serializer = resolve_serializer(os.environ.get("POOL_SERIALIZER") or None)
        self._rows, self._look = Rows(self._redis, serializer), Look(self._redis, serializer)
        self._search = Search(self._redis, self._look)
        self._enqueue, self._cancel, self._purge = (
            self._redis.register_script(_script(name)) for name in ("enqueue", "cancel", "purge")
        )
        #: Nobody waits any longer for a server that is away.
        self._is_closed = threading.Event()
        #: Queues of which it was looked whether a scheduler moves jobs into them.
        self._schedulers_sought: Set[str] = set()

    def enqueue(self, jobs: Sequence[NewJob]) -> List[Enqueued]:
        """See `broker.Broker`."""
        check.jobs(jobs, self._payload_len_max)
        with self._told():
            at = now()
            added = self._add([self._rows.row(job, at) for job in jobs], at)
            self._seek_schedulers({job.queue for job in jobs if job.due_ms is not None})
            return added

    def enqueue_group(self, group: NewGroup) -> None:
        """See `broker.Broker`."""
        check.group(group, self._payload_len_max)
        if group.on_failure is not None:
            raise Refused("on Redis, a group with `on_failure` is enqueued by `pool enqueue --group --on-failure`")
        if not group.jobs:
            raise Refused("on Redis a group has one job at least: it is no more than its jobs")
        if group.on_done is not None and len(group.jobs) > _DEPENDENCIES_MAX:
            raise Refused(
                f"on Redis a job that runs after {len(group.jobs)} others is too much: {_DEPENDENCIES_MAX} is the limit"
            )
        with self._told():
            at = now()
            rows = [self._rows.row(job, at) for job in group.jobs]
            if group.on_done is not None:
                rows.append(self._rows.after(group.on_done, group))
            self._add(rows, at, group.id, len(group.jobs))

    def enqueue_chain(self, jobs: Sequence[NewJob]) -> None:
        """See `broker.Broker`; RQ hands no results on."""
        raise Refused("there are no chains on Redis; enqueue with RQ's `depends_on`, as docs/flow.md says")

    def find(self, ids: Sequence[str]) -> List[Optional[JobView]]:
        """See `broker.Broker`."""
        with self._told():
            return self._look.find(ids)

    def cancel(self, ids: Sequence[str], running: bool) -> List[Canceled]:
        """See `broker.Broker`."""
        if not ids:
            return []
        with self._told():
            words = [word.decode() for word in self._cancel(args=[NAMES, *_moment(), *ids])]
            answers = []
            for id, word in zip(ids, words):
                try:
                    answer = Canceled(word)
                except ValueError:
                    raise BrokerError(f"job `{id}` can't be canceled: {word}") from None
                if answer is Canceled.RUNS and running and publish_stop(self._redis, id):
                    answer = Canceled.ASKED
                answers.append(answer)
            return answers

    def search(self, filter: JobFilter, most: int, after: Any = None) -> Tuple[List[str], Any]:
        """See `broker.Broker`."""
        with self._told():
            return self._search.step(filter, most, after)

    def purge(self, queue: str, scheduled: bool, most: int) -> int:
        """See `broker.Broker`."""
        with self._told():
            if scheduled:
                return self._delete(queue, "scheduled", most)
            # Each job that leaves the queue would let one of these into it.
            blocked, after = JobFilter(frozenset([State.BLOCKED.value]), queue), None
            deleted, is_last = 0, False
            while deleted < most and not is_last:
                ids, after = self._search.step(blocked, most - deleted, after)
                deleted += self._delete(queue, "rate_limited", most, ids) if ids else 0
                is_last = after is None
            return deleted + (self._delete(queue, "waiting", most - deleted) if deleted < most else 0)

    def _delete(self, queue: str, what: str, most: int, ids: Sequence[str] = ()) -> int:
        return int(self._purge(args=[NAMES, *_moment(), queue, what, most, *ids]))

    def wait(self, id: str, limit: Optional[float]) -> Optional[JobView]:
        """See `broker.Broker`."""
        left, outage = _Left(limit, f"job `{id}`"), _Outage(self._has_answered)
        key, seen = results_key(id), "0-0"
        while True:
            try:
                (view,) = self.find([id])
                outage.is_over()
                if view is None or view.state.is_final:
                    return view
                read_ms = left.read_ms()
                with self._told():
                    seen = newest(self._redis.xread({key: seen}, block=read_ms), key, seen)
            except BrokerUnreachable as error:
                if self._is_closed.wait(outage.pause_s(error, left)):
                    raise

    async def wait_async(self, id: str, limit: Optional[float]) -> Optional[JobView]:
        """See `broker.Broker`. The wait takes no thread: there are few of those, and others must not wait for it."""
        left, outage = _Left(limit, f"job `{id}`"), _Outage(self._has_answered)
        key, seen = results_key(id), "0-0"
        async with AsyncRedis.from_url(self._url, **_TIMEOUTS) as redis:
            while True:
                try:
                    (view,) = await asyncio.to_thread(self.find, [id])
                    outage.is_over()
                    if view is None or view.state.is_final:
                        return view
                    read_ms = left.read_ms()
                    with self._told():
                        seen = newest(await redis.xread({key: seen}, block=read_ms), key, seen)
                except BrokerUnreachable as error:
                    await asyncio.sleep(outage.pause_s(error, left))

    def find_group(self, id: str) -> Optional[GroupView]:
        """See `broker.Broker`; RQ keeps no counts, so that those of its jobs are counted that it still knows."""
        views = [view for view in self.find(self.group_members(id)) if view is not None]
        if not views:
            return None
        finished = sum(view.state.value == "finished" for view in views)
        failed = sum(view.state.place.value == "dead" for view in views)
        return GroupView(id, len(views), finished, failed, finished + failed == len(views))

    def group_members(self, id: str) -> List[str]:
        """See `broker.Broker`; in the order of their ids, which grow with time unless they were chosen."""
        with self._told():
            members: Any = self._redis.smembers(f"{PREFIX}:group:{id}")
            return sorted(member.decode() for member in members)

    def wait_group(self, id: str, limit: Optional[float]) -> Optional[GroupView]:
        """See `broker.Broker`."""
        left = _Left(limit, f"group `{id}`")
        for member in self.group_members(id):
            try:
                self.wait(member, left.seconds())
            except TimeoutError:
                raise left.error() from None
        return self.find_group(id)

    async def wait_group_async(self, id: str, limit: Optional[float]) -> Optional[GroupView]:
        """See `broker.Broker`."""
        left = _Left(limit, f"group `{id}`")
        for member in await asyncio.to_thread(self.group_members, id):
            try:
                await self.wait_async(member, left.seconds())
            except TimeoutError:
                raise left.error() from None
        return await asyncio.to_thread(self.find_group, id)

    def close(self) -> None:
        """See `broker.Broker`."""
        self._is_closed.set()
        self._redis.close()

    def _add(self, rows: List[List[Any]], at: datetime, group: str = "", members: int = 0) -> List[Enqueued]:
        if not rows:
            return []
        keys = {row[0] for row in rows if row[3] == "open"}
        twice = next((row[0] for row in rows if row[3] == "taken" and row[0] in keys), None)
        if twice is not None:
            raise IdTaken(twice)
        values = (value for row in rows for value in row)
        taken, *added = self._enqueue(args=[NAMES, group, members, *_moment(), *values])
        taken = taken.decode()
        if taken:
            raise IdTaken(group, "group") if taken == _GROUP_TAKEN else IdTaken(taken)
        return [Enqueued(row[0], bool(is_new), at if is_new else None) for row, is_new in zip(rows, added)]

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of Redis in the words of the broker."""
        try:
            yield
            self._has_answered = True
        except PoolhouseError:
            raise
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            raise BrokerUnreachable(f"the broker at {self._name}: {error}") from error
        except RedisError as error:
            raise BrokerError(f"the broker at {self._name}: {error}") from error

    def _seek_schedulers(self, queues: Set[str]) -> None:
        """Says once of each queue if no scheduler moves the jobs into it that were enqueued for later."""
        for queue in queues - self._schedulers_sought:
            self._schedulers_sought.add(queue)
            try:
                has_scheduler = self._redis.exists(f"{PREFIX}:scheduler-lock:{queue}")
            except (RedisError, OSError):
                return  # the jobs are enqueued: whoever is told of an error here would enqueue them again
            if not has_scheduler:
                _log.warning(
                    "no scheduler moves jobs that come due into the queue `%s` now; a pool with `--with-scheduler` does",
                    queue,
                )


class _Outage:
    """The server may be away from a wait for a while, once it has answered."""

    def __init__(self, has_answered: bool) -> None:
        self._answered = has_answered
        self._since: Optional[float] = None
        self._pause_s = _PAUSE_S

    def is_over(self) -> None:
        """It has answered."""
        self._answered, self._since, self._pause_s = True, None, _PAUSE_S

    def pause_s(self, error: BrokerUnreachable, left: _Left) -> float:
        """How long to wait before the next try. Raises the error if there is none, `TimeoutError` when the time is up."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if not self._answered or now - self._since > _AWAY_S:
            raise error
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, _PAUSE_S_MAX)
        seconds = left.seconds()
        if seconds == 0:
            raise left.error() from error
        return pause_s if seconds is None else min(pause_s, seconds)


class _Left:
    """What is left of the time that a wait may take."""

    def __init__(self, limit: Optional[float], what: str) -> None:
        self._limit, self._what = limit, what
        self._deadline = None if limit is None else time.monotonic() + limit

    def seconds(self) -> Optional[float]:
        """None: there is no limit."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def read_ms(self) -> int:
        """How long the next blocking read may take. Raises `TimeoutError` when the time is up."""
        left = self.seconds()
        ms = _READ_MS if left is None else min(round(left * 1000), _READ_MS)
        if ms <= 0:  # to Redis, none would be without end
            raise self.error()
        return ms

    def error(self) -> TimeoutError:
        """The time is up."""
        return TimeoutError(f"{self._what} has not ended within {self._limit:g} s; it goes on")


def _check_database(url: str) -> None:
    """What is no number redis-py takes for the first database."""
    parts = urlsplit(url)
    database = parts.path.strip("/")
    if parts.scheme in ("redis", "rediss") and database and not database.isdecimal():
        raise ValueError(f"its database is {database!r}; expected a number")


def _moment() -> Tuple[str, int]:
    """Now, for the scripts: as RQ writes it, and in seconds."""
    return utcformat(now()), int(time.time())


def _script(name: str) -> str:
    """Each goes behind what all scripts begin with."""
    parts = [pkgutil.get_data(__package__, f"{part}.lua") for part in ("common", "rate_limit", name)]
    return b"".join(part for part in parts if part is not None).decode()
