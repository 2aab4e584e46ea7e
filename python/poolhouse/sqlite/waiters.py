"""Those who wait for jobs or groups to end.

One thread sleeps in poll(2) for all of them: until the bell rings, or somebody is added. It looks at what is waited for, and
answers those whose wait is over. While nobody waits, the bell may ring. Nothing is asked of the file in between.
"""

from __future__ import annotations

import os
import select
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, List, NamedTuple, Optional, Tuple

from poolhouse.errors import BrokerError
from poolhouse.model import GroupView, JobView
from poolhouse.sqlite import read
from poolhouse.sqlite.database import Database
from poolhouse.sqlite.inotify import Watch

if TYPE_CHECKING:
    from concurrent.futures import Future

#: A look is free up to this time. Whoever waits for very many jobs takes a tenth of a processor for longer ones.
_LOOK_COST_FREE_S, _REST_FACTOR = 0.002, 9

#: Looks at what is waited for; a tuple with the answer, or None while it has not ended.
_Look = Callable[[sqlite3.Connection], Optional[Tuple[Any]]]


class _Waiter(NamedTuple):
    future: Future[Any]
    look: _Look


class Waiters:
    """The waits of one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._waiters: List[_Waiter] = []
        self._thread: Optional[threading.Thread] = None
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._closing = False

    def job(self, id: str) -> Future[Optional[JobView]]:
        """Is done when a job has ended, or is gone."""
        handle: Optional[int] = None

        def look(connection: sqlite3.Connection) -> Optional[Tuple[Optional[JobView]]]:
            nonlocal handle
            if handle is not None and not read.has_ended(connection, handle):
                return None
            found = read.find(connection, id)
            if found is None:
                return (None,)
            handle, view = found
            return (view,) if view.state.is_final else None

        return self._add(look)

    def group(self, id: str) -> Future[Optional[GroupView]]:
        """Is done when all members of a group have ended, or it is gone."""

        def look(connection: sqlite3.Connection) -> Optional[Tuple[Optional[GroupView]]]:
            view = read.find_group(connection, id)
            return (view,) if view is None or view.is_ended else None

        return self._add(look)

    def close(self) -> None:
        """Ends the thread; those who still wait hear of it."""
        with self._lock:
            self._closing = True
            thread = self._thread
        self._wake()
        if thread is not None:
            thread.join()
        self._fail(BrokerError(f"{self._database.url} was closed by this program"))
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _add(self, look: _Look) -> Future[Any]:
        from concurrent.futures import Future  # which a program that only enqueues need not load

        future: Future[Any] = Future()
        with self._lock:
            self._waiters.append(_Waiter(future, look))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="poolhouse-wait", daemon=True)
                self._thread.start()
        self._wake()
        return future

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"!")
        except BlockingIOError:
            pass  # it is full, so the thread wakes anyway

    def _run(self) -> None:
        watch: Optional[Watch] = None
        try:
            while not self._closing:
                if self._drop_canceled():
                    try:
                        # Noted before the look, so that a ring during the look causes another one.
                        if watch is None:
                            watch = self._database.bell.watch()
                        elif watch.take():
                            self._database.bell.follow(watch)
                        self._look()
                    except Exception as error:
                        self._fail(_told(error, self._database.url))
                self._sleep(watch)
        finally:
            if watch is not None:
                watch.close()

    def _drop_canceled(self) -> bool:
        """Forgets waits that were given up; whether any is left."""
        with self._lock:
            self._waiters = [waiter for waiter in self._waiters if not waiter.future.done()]
            return bool(self._waiters)

    def _look(self) -> None:
        with self._lock:
            waiters = list(self._waiters)
        began = time.monotonic()
        answers = []
        with self._database.read() as connection:
            for waiter in waiters:
                answer = waiter.look(connection)
                if answer is not None:
                    answers.append((waiter.future, answer[0]))
        cost = time.monotonic() - began
        for future, value in answers:
            if future.set_running_or_notify_cancel():
                future.set_result(value)
        if cost > _LOOK_COST_FREE_S:
            self._poll([self._wake_read], cost * _REST_FACTOR)

    def _sleep(self, watch: Optional[Watch]) -> None:
        descriptors = [self._wake_read]
        if watch is not None and self._drop_canceled():
            descriptors.append(watch.descriptor)
        self._poll(descriptors, None)
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            pass

    @staticmethod
    def _poll(descriptors: List[int], limit_s: Optional[float]) -> None:
        poll = select.poll()
        for descriptor in descriptors:
            poll.register(descriptor, select.POLLIN)
        poll.poll(None if limit_s is None else limit_s * 1000)

    def _fail(self, error: BrokerError) -> None:
        with self._lock:
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.future.set_running_or_notify_cancel():
                waiter.future.set_exception(error)


def _told(error: Exception, url: str) -> BrokerError:
    if isinstance(error, BrokerError):
        return error
    if isinstance(error, OSError):
        return BrokerError(
            f"{url}: cannot watch for changes: {error} (does this user watch too many files? see "
            "`fs.inotify.max_user_instances`)"
        )
    return BrokerError(f"{url}: {error}")
