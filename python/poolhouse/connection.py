"""A pool's connection to its broker: opened when it is first needed, once in each process."""

from __future__ import annotations

import os
import threading
from typing import Any, Dict, List, Optional

from poolhouse.broker import Broker
from poolhouse.brokers import open_broker

#: What a process has inherited by a fork: it is another process's, and not even to be closed here.
_inherited: List[Any] = []


class Connection:
    """Knows how to open the broker, and keeps it open."""

    def __init__(self, url: Optional[str], fsync: Optional[bool], max_payload: Optional[int]) -> None:
        self._url, self._fsync, self._max_payload = url, fsync, max_payload
        #: By process: a fork copies a lock as it is, perhaps held by a thread that is not copied.
        self._locks: Dict[int, threading.Lock] = {}
        self._broker: Optional[Broker] = None
        self._pid = 0
        #: Takes the broker's place; for tests.
        self.substitute: Optional[Broker] = None

    def broker(self) -> Broker:
        """The broker of this process."""
        if self.substitute is not None:
            return self.substitute
        if self._broker is not None and self._pid == os.getpid():
            return self._broker
        return self._open()

    def close(self) -> None:
        """Lets go of what is open; the next use opens it again."""
        with self._lock():
            broker, self._broker = self._broker, None
            if broker is not None and self._pid == os.getpid():
                broker.close()

    def _open(self) -> Broker:
        with self._lock():
            if self._broker is not None and self._pid != os.getpid():
                _inherited.append(self._broker)
                self._broker = None
            if self._broker is None:
                self._broker = open_broker(self._url, self._fsync, self._max_payload)
                self._pid = os.getpid()
            return self._broker

    def _lock(self) -> threading.Lock:
        return self._locks.setdefault(os.getpid(), threading.Lock())
