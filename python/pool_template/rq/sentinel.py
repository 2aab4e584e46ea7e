"""The master as Sentinels know it, for all workers of a template. Any of the Sentinels may be dead, or hang.

redis-py asks them one after the other, and each of its clients begins at the first that is listed, connects to it eleven
times and waits for seconds in between before it asks the second. Here one that takes no connection is not asked,
each is asked once, and the one that answered is the first that all the workers ask from then on.
"""

from __future__ import annotations

import errno
import mmap
import selectors
import socket
import time
from contextlib import ExitStack
from typing import Any, Iterable, Optional

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, SentinelManagedConnection, SentinelManagedSSLConnection
from redis.sentinel import Sentinel as RedisSentinel

from pool_template.rq.settings import Sentinel as Settings

#: Longest wait for a Sentinel's connection, and for its answer. The supervisor's is the same.
_LIMIT_S = 2.0
#: The Sentinel that answered last is given so long to take a connection before the others are tried beside it.
_HEAD_START_S = 0.1


class _Following:
    """A connection that asks the Sentinels again whenever it connects; redis-py 8.1 reconnects to the old master."""

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if not self._sock:  # type: ignore[attr-defined]
            self.connect()  # type: ignore[attr-defined]
        super().send_packed_command(command, check_health)  # type: ignore[misc]


class _FollowingConnection(_Following, SentinelManagedConnection):
    pass


class _FollowingSSLConnection(_Following, SentinelManagedSSLConnection):
    pass


class Sentinels:
    """Where Redis is found by Sentinels. Made before the forks: what one worker learns, all know."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        #: One number, shared with all that is forked: which Sentinel answered last, counted from 1; 0: none yet.
        self._last = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("I")

    def master(self, is_tls: bool, **options: Any) -> Redis:
        """A client of the master, whichever that is when it connects. `options` are those of its connections."""
        kind = _FollowingSSLConnection if is_tls else _FollowingConnection
        return _Search(self._settings, self._last, **options).master_for(self._settings.service, connection_class=kind)


class _Search(RedisSentinel):
    """One client's. The search is repeated by whoever needs the master: so no call here is."""

    def __init__(self, settings: Settings, last: memoryview, **options: Any) -> None:
        asking = {
            "socket_connect_timeout": _LIMIT_S,
            "socket_timeout": _LIMIT_S,
            "retry": Retry(NoBackoff(), 0),
            **settings.connection,
        }
        super().__init__(settings.hosts, sentinel_kwargs=asking, **options)
        self._hosts = settings.hosts
        self._listed = tuple(self.sentinels)
        self._last = last

    def discover_master(self, service_name: str) -> Any:
        """See redis-py, which asks `sentinels` in their order and moves the one that knows the master to the front."""
        first = self._within_reach()
        if first is None:
            raise MasterNotFoundError(f"none of the Sentinels {self._hosts} takes a connection")
        self.sentinels = [self._listed[first], *self._listed[:first], *self._listed[first + 1 :]]
        master = super().discover_master(service_name)
        self._last[0] = 1 + self._listed.index(self.sentinels[0])
        return master

    def _within_reach(self) -> Optional[int]:
        """The Sentinel to ask first: the one that answered last, unless it takes no connection."""
        everybody = range(len(self._hosts))
        last = self._last[0] - 1
        found = self._first_to_connect([last], _HEAD_START_S) if last in everybody else None
        return self._first_to_connect(everybody, _LIMIT_S) if found is None else found

    def _first_to_connect(self, candidates: Iterable[int], limit_s: float) -> Optional[int]:
        """Which of them takes a connection first; None if nobody does in time."""
        until = time.monotonic() + limit_s
        with selectors.DefaultSelector() as waiting, ExitStack() as attempts:
            for candidate in candidates:
                for attempt in _begin_to_connect(*self._hosts[candidate]):
                    waiting.register(attempts.enter_context(attempt), selectors.EVENT_WRITE, candidate)
            while waiting.get_map():
                ended = waiting.select(max(0.0, until - time.monotonic()))
                if not ended:
                    break
                for key, _ in ended:
                    if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:  # type: ignore[union-attr]
                        return int(key.data)
                    waiting.unregister(key.fileobj)
        return None


def _begin_to_connect(host: str, port: int) -> Iterable[socket.socket]:
    """Sockets that connect by themselves, one for each address of this host."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return  # nobody knows this host (any more): the others may do
    for family, kind, protocol, _, address in addresses:
        attempt = socket.socket(family, kind, protocol)
        attempt.setblocking(False)
        if attempt.connect_ex(address) in (0, errno.EINPROGRESS):
            yield attempt
        else:
            attempt.close()
