"""Canceling jobs, and stopping those that run."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

from poolhouse.model import Canceled, JobError
from poolhouse.sqlite import flow
from poolhouse.sqlite.database import Transaction

_CANCELED = JobError("canceled", "somebody canceled it before it began")
#: What the column `stop` of table `running` holds: not to begin; nor to run on.
_IF_NOT_BEGUN, _FOR_GOOD = 1, 2


def cancel(transaction: Transaction, id: str, running: bool, result_ttl_ms: int) -> Canceled:
    """Cancels a job; with `running`, one that runs is stopped for good."""
    row = transaction.one("SELECT handle FROM jobs WHERE id = ?", (id,))
    if row is None:
        return Canceled.UNKNOWN
    handle = int(row[0])
    held = transaction.one("SELECT begun FROM running WHERE handle = ?", (handle,))
    if held is not None:
        if held[0] and not running:
            return Canceled.RUNS
        stop = _FOR_GOOD if running else _IF_NOT_BEGUN
        transaction.execute("UPDATE running SET stop = ? WHERE handle = ?", (stop, handle))
        transaction.rings = True
        return Canceled.ASKED
    epoch = _take_from_its_place(transaction, handle)
    if epoch is not None:
        flow.bury(transaction, handle, epoch, _CANCELED, result_ttl_ms)
        transaction.rings = True
        return Canceled.DONE
    expired = transaction.one(
        "SELECT 1 FROM finished WHERE handle = ? AND expires <= ?", (handle, transaction.now_ms)
    )
    return Canceled.ENDED if expired is None else Canceled.UNKNOWN


def _take_from_its_place(transaction: Transaction, handle: int) -> Optional[int]:
    """Takes a job from where it waits. Returns how often it was claimed; None: it waits nowhere."""
    row = transaction.one("DELETE FROM blocked WHERE handle = ? RETURNING epoch", (handle,))
    if row is not None:
        return int(row[0])
    row = _take_waiting(transaction, handle, "position IN (?, ?)", (handle, -handle))  # where it stood from the start
    if row is not None:
        return int(row[1])
    row = transaction.one("DELETE FROM scheduled WHERE handle = ? RETURNING queue, epoch", (handle,))
    if row is not None:
        transaction.count(row[0], 0, -1)
        return int(row[1])
    if transaction.one("DELETE FROM deferred WHERE handle = ? RETURNING handle", (handle,)) is not None:
        return 0
    ended = "SELECT 1 FROM finished WHERE handle = ? UNION ALL SELECT 1 FROM dead WHERE handle = ?"
    if transaction.one(ended, (handle, handle)) is not None:
        return None
    row = _take_waiting(transaction, handle, "1", ())  # it has moved: this goes through the queue
    return None if row is None else int(row[1])


def _take_waiting(
    transaction: Transaction, handle: int, place: str, positions: Tuple[int, ...]
) -> Optional[Tuple[Any, ...]]:
    row = transaction.one(
        "DELETE FROM waiting WHERE queue = (SELECT queue FROM jobs WHERE handle = ?)"
        f" AND handle = ? AND {place} RETURNING queue, epoch",
        (handle, handle, *positions),
    )
    if row is not None:
        transaction.count(row[0], -1, 0)
        _unblock(transaction, handle, row[0])
    return row


def _unblock(transaction: Transaction, handle: int, queue: int) -> None:
    """A job has left its queue. If it stood there for a free place of its limit, the next of that queue may have it."""
    row = transaction.one("SELECT limit_key FROM jobs WHERE handle = ?", (handle,))
    if row is None or row[0] is None:
        return
    row = transaction.one(
        "DELETE FROM blocked WHERE (limit_key, queue, position) = (SELECT limit_key, queue, position FROM blocked"
        " WHERE limit_key = ? AND queue = ? ORDER BY position LIMIT 1) RETURNING position, handle, since, epoch",
        (row[0], queue),
    )
    if row is not None:
        transaction.wait(queue, *row)
        transaction.count(queue, 1, 0)


def purge(transaction: Transaction, queue: str, scheduled: bool, most: int, result_ttl_ms: int) -> int:
    """Deletes jobs that wait, or are due later; those who wait for them are told that they were canceled."""
    row = transaction.one("SELECT queue FROM queues WHERE name = ?", (queue,))
    if row is None:
        return 0
    tables = ("scheduled",) if scheduled else ("waiting", "blocked")
    handles: List[int] = []
    for table in tables:
        found = transaction.execute(
            f"SELECT handle FROM {table} WHERE queue = ? LIMIT ?", (row[0], most - len(handles))
        ).fetchall()
        handles += [handle for (handle,) in found]
    for handle in handles:
        epoch = _take_from_its_place(transaction, handle)
        if epoch is not None:
            flow.bury(transaction, handle, epoch, _CANCELED, result_ttl_ms)
            transaction.execute("DELETE FROM dead WHERE handle = ?", (handle,))
        transaction.forget(handle)
    transaction.rings |= bool(handles)
    return len(handles)
