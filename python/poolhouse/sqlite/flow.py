"""What it means for others that a job failed or was canceled: members of groups are counted, followers do not run.

The program `pool` does the same in the transaction in which a job ends: `src/broker/sqlite/flow.rs`.
"""

from __future__ import annotations

import json
from typing import Optional

from poolhouse.model import GROUP, JobError
from poolhouse.payload import hand_on
from poolhouse.sqlite.database import Transaction

#: The kind of the error of a job that never ran.
_EARLIER_JOB_FAILED = "earlier job failed"
#: How long the results of a group are kept where the configuration does not say: its default, an hour.
RESULT_TTL_MS = 3_600_000


def bury(transaction: Transaction, handle: int, epoch: int, error: JobError, result_ttl_ms: int) -> None:
    """Puts a job that stands nowhere among the dead letters, and tells those who wait for it. It is to blame for nothing."""
    remember(transaction, handle, error)
    row = transaction.one("SELECT id, task, unique_key, grp, next FROM jobs WHERE handle = ?", (handle,))
    if row is not None:
        id, task, key, grp, next = row
        if key is not None:
            transaction.execute("DELETE FROM unique_keys WHERE key = ?", (key,))
        if grp is not None:
            count_member(transaction, grp, 1, result_ttl_ms)
        if next is not None:
            _end_followers(transaction, next, id, task, error)
    _lay_out(transaction, handle, epoch)


def remember(transaction: Transaction, handle: int, error: JobError) -> None:
    """Keeps what went wrong; failures and losses stay as they were counted."""
    transaction.execute(
        "INSERT INTO attempts (handle, failures, losses, error) VALUES (?, 0, 0, ?)"
        " ON CONFLICT (handle) DO UPDATE SET error = excluded.error, returned = 0",
        (handle, json.dumps({"kind": error.kind, "message": error.message}, ensure_ascii=False)),
    )


def count_member(transaction: Transaction, grp: int, failed: int, result_ttl_ms: int = RESULT_TTL_MS) -> None:
    """Counts a member that failed (none, for a group without members); lets the callbacks go when it is time."""
    row = transaction.one(
        "UPDATE groups SET failed = failed + ? WHERE grp = ? AND ended ISNULL"
        " RETURNING id, total, finished, failed, on_done, on_failure",
        (failed, grp),
    )
    if row is None:  # it has ended before, and counts no more
        return
    id, total, finished, failures, on_done, on_failure = row
    summary = json.dumps({"group": id, "total": total, "finished": finished, "failed": failures}).encode()
    if on_failure is not None and failures:
        _let_go(transaction, on_failure, summary)
        transaction.execute("UPDATE groups SET on_failure = NULL WHERE grp = ?", (grp,))
    if finished + failures < total:
        return
    if on_done is not None:
        _let_go(transaction, on_done, summary)
    if on_failure is not None and not failures and _undefer(transaction, on_failure):
        transaction.forget(on_failure)
    transaction.execute(
        "UPDATE groups SET ended = ?, expires = ?, on_done = NULL, on_failure = NULL WHERE grp = ?",
        (transaction.now_ms, transaction.now_ms + result_ttl_ms, grp),
    )


def _end_followers(transaction: Transaction, next: Optional[int], id: str, task: str, error: JobError) -> None:
    """Ends the deferred jobs that were to get a result: they never run."""
    message = (
        f"it did not run, since job {id} of task `{task}`, earlier in its chain, failed ({error.kind}: {error.message})"
    )
    why = JobError(
        _EARLIER_JOB_FAILED,
        message if error.never_ran else f"{message}; `pool dead retry {id}` resumes the chain",
    )
    while next is not None and _undefer(transaction, next):
        remember(transaction, next, why)
        _lay_out(transaction, next, 0)
        row = transaction.one("SELECT next FROM jobs WHERE handle = ?", (next,))
        next = None if row is None else row[0]


def _let_go(transaction: Transaction, handle: int, summary: bytes) -> None:
    """Puts a callback into its queue, with the summary among its arguments."""
    if not _undefer(transaction, handle):
        return  # deleted meanwhile
    row = transaction.one("SELECT queue, payload FROM jobs WHERE handle = ?", (handle,))
    if row is None:
        return
    queue, payload = row
    transaction.execute("UPDATE jobs SET payload = ? WHERE handle = ?", (hand_on(payload, GROUP, summary), handle))
    transaction.wait(queue, transaction.numbers(1), handle, transaction.now_ms, 0)
    transaction.count(queue, 1, 0)


def _undefer(transaction: Transaction, handle: int) -> bool:
    """Ends a deferment; false if the job is not deferred."""
    return transaction.one("DELETE FROM deferred WHERE handle = ? RETURNING handle", (handle,)) is not None


def _lay_out(transaction: Transaction, handle: int, epoch: int) -> None:
    transaction.execute(
        "INSERT INTO dead (handle, ended, epoch) VALUES (?, ?, ?)", (handle, transaction.now_ms, epoch)
    )
