"""The file: opening it, its schema, its transactions.

Its schema is that of `src/broker/sqlite/schema*.sql`, and the rules of its transactions are in docs/embedded-broker.md.
"""

from __future__ import annotations

import os
import pkgutil
import sqlite3
import stat
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import Any, Dict, Iterator, List, Optional, Tuple

from poolhouse.errors import BrokerError, PoolhouseError
from poolhouse.sqlite.bell import Bell

#: Marks the file: "pool".
_APPLICATION_ID = int.from_bytes(b"pool", "big")
#: Each brings the schema from the version that is its index to the next one.
_MIGRATIONS = ("schema.sql", *(f"schema_{version}.sql" for version in range(2, 10)))
#: The first SQLite with strict tables.
_SQLITE_NEEDED = (3, 37)
#: How long a transaction waits for those of other processes, in seconds.
_BUSY_TIMEOUT_S = 10.0
#: Scheduled jobs that one transaction moves into their queues at the most.
_PROMOTED_MAX = 2000
#: As the program `pool` has them: pages of the log until a checkpoint, bytes to which it is cut, KiB of cache.
_CHECKPOINT_PAGES, _LOG_LEN_KEPT, _CACHE_KIB = 4096, 64 << 20, 32 << 10


class Database:
    """One connection to write and one to read, for all threads of a process."""

    def __init__(self, path: str, fsync: bool) -> None:
        self.path = os.path.abspath(path)
        self.url = f"sqlite:{self.path}"
        self.bell: Bell
        self._fsync = fsync
        if sqlite3.sqlite_version_info < _SQLITE_NEEDED:
            raise BrokerError(
                f"cannot use {self.url}: this Python has SQLite {sqlite3.sqlite_version}; 3.37 or newer is needed"
            )
        with self._told(), ExitStack() as undo:
            self._make_file()
            self.bell = Bell(self.path)
            undo.callback(self.bell.close)
            self._write = self._connect()
            undo.callback(self._write.close)
            self._update()
            self._read = self._connect()
            self._inode = os.stat(self.path).st_ino
            undo.pop_all()
        self._writing, self._reading = threading.Lock(), threading.Lock()
        self._queues: Dict[str, int] = {}

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A transaction that has its turn among all processes; rings when it has left something to see."""
        with self._writing, self._told():
            self._check_file()
            try:
                self._write.execute("BEGIN IMMEDIATE")
                transaction = Transaction(self._write, self._queues)
                transaction.promote()
                yield transaction
                self._write.execute("COMMIT")
            except BaseException:
                self._queues.clear()  # one that the transaction made is gone with it
                if self._write.in_transaction:
                    self._write.execute("ROLLBACK")
                raise
            if transaction.rings:
                self.bell.ring()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees one instant, and never waits for those who write."""
        with self._reading, self._told():
            self._check_file()
            self._read.execute("BEGIN")
            try:
                yield self._read
            finally:
                self._read.execute("ROLLBACK")

    def close(self) -> None:
        """Closes both connections."""
        with self._writing, self._reading:
            self._read.close()
            self._write.close()
            self.bell.close()

    def _make_file(self) -> None:
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        try:
            # For this user alone; SQLite gives its other files the same mode. This opens nothing: closing a
            # descriptor of the database would drop the locks of this process's other connections.
            os.mknod(self.path, stat.S_IFREG | 0o600)
        except FileExistsError:
            pass

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        settings = (
            f"synchronous = {'FULL' if self._fsync else 'NORMAL'}",
            "temp_store = MEMORY",
            f"cache_size = -{_CACHE_KIB}",
            f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
            f"journal_size_limit = {_LOG_LEN_KEPT}",
        )
        try:
            for setting in settings:
                connection.execute(f"PRAGMA {setting}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _update(self) -> None:
        """Makes the schema, or brings it up to date, in one transaction."""
        if self._version() == len(_MIGRATIONS):
            return
        with self.bell.alone():
            (mode,) = self._write.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise BrokerError(f"cannot use {self.url}: its file system has no shared memory; choose a local one")
            self._write.execute("BEGIN IMMEDIATE")
            try:
                for name in _MIGRATIONS[self._version() :]:
                    for statement in _statements(name):
                        self._write.execute(statement)
                self._write.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                self._write.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
                self._write.execute("COMMIT")
            except BaseException:
                if self._write.in_transaction:
                    self._write.execute("ROLLBACK")
                raise

    def _version(self) -> int:
        """The schema's version, 0 for an empty file. Refuses files that are not the broker's, or too new."""

        def number(pragma: str) -> int:
            return int(self._write.execute(f"PRAGMA {pragma}").fetchone()[0])

        application = number("application_id")
        if not application and not number("schema_version"):
            return 0
        if application != _APPLICATION_ID:
            raise BrokerError(f"cannot use {self.url}: it is a database of another program")
        version = number("user_version")
        if version > len(_MIGRATIONS):
            raise BrokerError(
                f"cannot use {self.url}: its schema has version {version}, this package knows those up to "
                f"{len(_MIGRATIONS)}; a newer `pool` has used it: install that version of `poolhouse`, or a newer one"
            )
        return version

    def _check_file(self) -> None:
        """Refuses to work on a file that has lost its name: others would never see what is written."""
        try:
            if os.stat(self.path).st_ino == self._inode:
                return
        except FileNotFoundError:
            pass
        raise BrokerError(
            f"{self.url}: the file was deleted or replaced while it was in use; put it back or restart the program"
        )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of SQLite and the system in the words of the broker."""
        try:
            yield
        except PoolhouseError:
            raise
        except sqlite3.Error as error:
            raise BrokerError(f"{self.url}: {_reason(error)}") from error
        except OSError as error:
            raise BrokerError(f"{self.url}: {error}") from error


class Transaction:
    """A writing transaction, at the one instant `now_ms` that it has."""

    def __init__(self, connection: sqlite3.Connection, queues: Dict[str, int]) -> None:
        self.execute = connection.execute
        self.execute_many = connection.executemany
        self.now_ms = time.time_ns() // 1_000_000
        #: It leaves something to see for those who wait.
        self.rings = False
        self._queues = queues

    def one(self, statement: str, values: Tuple[Any, ...] = ()) -> Optional[Tuple[Any, ...]]:
        """The first row that a statement returns; the statement is run to its end."""
        rows: List[Tuple[Any, ...]] = self.execute(statement, values).fetchall()
        return rows[0] if rows else None

    def numbers(self, count: int) -> int:
        """Reserves numbers for handles and positions; the first of them."""
        row = self.one("UPDATE sequence SET last = last + ? RETURNING last", (count,))
        assert row is not None, "the table has one row"
        return int(row[0]) - count + 1

    def queue(self, name: str) -> int:
        """The number of a queue, made if need be."""
        known = self._queues.get(name)
        if known is None:
            row = self.one("SELECT queue FROM queues WHERE name = ?", (name,))
            if row is None:
                row = self.one("INSERT INTO queues (name) VALUES (?) RETURNING queue", (name,))
            assert row is not None, "an insert returns its row"
            known = self._queues[name] = int(row[0])
        return known

    def count(self, queue: int, waiting: int, scheduled: int) -> None:
        """Adds to a queue's counts."""
        if waiting or scheduled:
            self.execute(
                "UPDATE queues SET waiting = max(waiting + ?, 0), scheduled = max(scheduled + ?, 0) WHERE queue = ?",
                (waiting, scheduled, queue),
            )

    def promote(self) -> None:
        """Moves scheduled jobs that are due into their queues: each writing transaction begins with this."""
        due = self.execute(
            "SELECT handle, due, queue, at_front, epoch FROM scheduled INDEXED BY scheduled_due"
            " WHERE due <= ? ORDER BY due, handle LIMIT ?",
            (self.now_ms, _PROMOTED_MAX),
        ).fetchall()
        if not due:
            return
        first = self.numbers(len(due))
        for number, (handle, since, queue, at_front, epoch) in enumerate(due, first):
            self.execute("DELETE FROM scheduled WHERE handle = ?", (handle,))
            self.wait(queue, -number if at_front else number, handle, since, epoch)
            self.count(queue, 1, -1)
        self.rings = True

    def wait(self, queue: int, position: int, handle: int, since_ms: int, epoch: int) -> None:
        """Puts a job into its queue; the caller counts it."""
        self.execute(
            "INSERT INTO waiting (queue, position, handle, since, epoch) VALUES (?, ?, ?, ?, ?)",
            (queue, position, handle, since_ms, epoch),
        )

    def forget(self, handle: int) -> None:
        """Deletes a job that has left all places."""
        self.execute("DELETE FROM jobs WHERE handle = ?", (handle,))
        self.execute("DELETE FROM attempts WHERE handle = ?", (handle,))


def _statements(name: str) -> Iterator[str]:
    """The statements of a file of the schema, one by one: all of them are to be one transaction."""
    text = pkgutil.get_data(__package__, name)
    assert text is not None, f"{name} is part of the package"
    statement = ""
    for line in text.decode().splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _reason(error: sqlite3.Error) -> str:
    said = str(error)
    if "locked" in said or "busy" in said:
        return "another process keeps it locked"
    if "disk is full" in said:
        return "the disk is full"
    if "readonly" in said:
        return "it is read-only for this user"
    return said
