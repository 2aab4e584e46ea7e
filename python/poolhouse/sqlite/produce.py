"""Adding jobs, groups and chains."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

from poolhouse.errors import IdTaken
from poolhouse.model import Enqueued, NewGroup, NewJob
from poolhouse.sqlite import flow
from poolhouse.sqlite.database import Transaction
from poolhouse.sqlite.read import instant

_INSERT_JOB = (
    "INSERT INTO jobs (handle, id, queue, task, enqueued, timeout_ms, retries, result_ttl_ms, unique_key, payload, grp, next,"
    " begin_by, limit_key, limit_max) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_WAITING = "INSERT INTO waiting (queue, position, handle, since, epoch) VALUES (?, ?, ?, ?, 0)"
_INSERT_SCHEDULED = "INSERT INTO scheduled (handle, due, queue, at_front, epoch) VALUES (?, ?, ?, ?, 0)"


def enqueue(
    transaction: Transaction, jobs: Sequence[NewJob], grp: Optional[int] = None, next: Optional[int] = None
) -> List[Enqueued]:
    """Adds jobs; one answer a job, in order. All are tied to the same group and the same follower."""
    now, handle = transaction.now_ms, transaction.numbers(len(jobs))
    at = instant(now)
    answers: List[Enqueued] = []
    rows, waiting, scheduled = [], [], []
    counts: Dict[int, Tuple[int, int]] = {}
    keys: Dict[str, str] = {}
    for job in jobs:
        holder = _key_holder(transaction, job, keys)
        if holder is not None:
            answers.append(Enqueued(holder, False))
            continue
        queue = transaction.queue(job.queue)
        rows.append(_row(transaction, job, handle, queue, grp, next))
        if job.unique_key is not None:
            keys[job.unique_key] = job.id
            transaction.execute(
                "INSERT OR REPLACE INTO unique_keys (key, handle) VALUES (?, ?)", (job.unique_key, handle)
            )
        waits, later = counts.get(queue, (0, 0))
        if job.due_ms is not None and job.due_ms > now:
            scheduled.append((handle, job.due_ms, queue, job.at_front))
            counts[queue] = (waits, later + 1)
        else:
            waiting.append((queue, -handle if job.at_front else handle, handle, now))
            counts[queue] = (waits + 1, later)
        answers.append(Enqueued(job.id, True, at))
        handle += 1
    transaction.execute_many(_INSERT_JOB, rows)
    transaction.execute_many(_INSERT_WAITING, waiting)
    if scheduled:
        transaction.execute_many(_INSERT_SCHEDULED, scheduled)
    for queue, (waits, later) in counts.items():
        transaction.count(queue, waits, later)
    transaction.rings |= bool(rows)
    return answers


def enqueue_group(transaction: Transaction, group: NewGroup) -> None:
    """Adds a group, all of it or nothing."""
    grp = transaction.numbers(1)
    on_done, on_failure = (
        None if job is None else _enqueue_deferred(transaction, job, transaction.numbers(1), None)
        for job in (group.on_done, group.on_failure)
    )
    made = transaction.one(
        "INSERT INTO groups (grp, id, total, created, on_done, on_failure) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO NOTHING RETURNING grp",
        (grp, group.id, len(group.jobs), transaction.now_ms, on_done, on_failure),
    )
    if made is None:
        raise IdTaken(group.id, "group")
    enqueue(transaction, group.jobs, grp=grp)
    if not group.jobs:
        flow.count_member(transaction, grp, failed=0)
    transaction.rings = True


def enqueue_chain(transaction: Transaction, jobs: Sequence[NewJob]) -> None:
    """Adds jobs of which each gets the result of the one before it."""
    if not jobs:
        return
    followers = jobs[1:]
    first = transaction.numbers(len(followers))
    enqueue(transaction, jobs[:1], next=first if followers else None)
    last = first + len(followers) - 1
    for handle, job in enumerate(followers, first):
        _enqueue_deferred(transaction, job, handle, handle + 1 if handle < last else None)


def _enqueue_deferred(transaction: Transaction, job: NewJob, handle: int, next: Optional[int]) -> int:
    queue = transaction.queue(job.queue)
    transaction.execute(_INSERT_JOB, _row(transaction, job, handle, queue, None, next))
    transaction.execute("INSERT INTO deferred (handle) VALUES (?)", (handle,))
    return handle


def _row(
    transaction: Transaction, job: NewJob, handle: int, queue: int, grp: Optional[int], next: Optional[int]
) -> Tuple[object, ...]:
    if job.id_is_chosen:
        _make_room(transaction, job.id)
    if job.begin_by_ms is not None:
        transaction.execute("INSERT INTO expiring (begin_by, handle) VALUES (?, ?)", (job.begin_by_ms, handle))
    limit_key, limit_max = job.limit or (None, None)
    return (
        handle,
        job.id,
        queue,
        job.task,
        transaction.now_ms,
        job.timeout_ms,
        job.retries,
        job.result_ttl_ms,
        job.unique_key,
        job.arguments,
        grp,
        next,
        job.begin_by_ms,
        limit_key,
        limit_max,
    )


def _make_room(transaction: Transaction, id: str) -> None:
    """Forgets the job that has this id, if it has expired; else raises `IdTaken`."""
    row = transaction.one(
        "SELECT handle, coalesce(expires <= ?, 0) FROM jobs LEFT JOIN finished USING (handle) WHERE id = ?",
        (transaction.now_ms, id),
    )
    if row is None:
        return
    handle, has_expired = row
    if not has_expired:
        raise IdTaken(id)
    transaction.execute("DELETE FROM finished WHERE handle = ?", (handle,))
    transaction.forget(handle)


def _key_holder(transaction: Transaction, job: NewJob, keys: Dict[str, str]) -> Optional[str]:
    """The job that holds this one's unique key; `keys`: those that were taken in this call."""
    if job.unique_key is None:
        return None
    if job.unique_key in keys:
        return keys[job.unique_key]
    row = transaction.one("SELECT id FROM unique_keys JOIN jobs USING (handle) WHERE key = ?", (job.unique_key,))
    return None if row is None else str(row[0])
