"""Looking jobs and groups up."""

from __future__ import annotations

import json
import sqlite3
import time
from datetime import datetime, timezone
from typing import Any, Dict, List, Optional, Tuple

from poolhouse.model import Attempt, GroupView, JobError, JobView, Progress, State
from poolhouse.payload import decode

_FIND = """
SELECT j.handle, j.id, q.name, j.task, j.payload, j.enqueued, s.due, coalesce(f.ended, d.ended),
       a.failures, a.losses, f.result, a.error,
       CASE WHEN f.handle NOTNULL THEN 'finished' WHEN d.handle NOTNULL THEN 'dead'
            WHEN r.handle NOTNULL THEN 'running' WHEN s.handle NOTNULL THEN 'scheduled'
            WHEN EXISTS (SELECT 1 FROM deferred w WHERE w.handle = j.handle) THEN 'deferred'
            WHEN EXISTS (SELECT 1 FROM blocked b WHERE b.handle = j.handle) THEN 'blocked'
            ELSE 'waiting' END, r.progress, a.history, f.started
FROM jobs j JOIN queues q ON q.queue = j.queue
LEFT JOIN attempts a ON a.handle = j.handle
LEFT JOIN scheduled s ON s.handle = j.handle
LEFT JOIN running r ON r.handle = j.handle
LEFT JOIN finished f ON f.handle = j.handle
LEFT JOIN dead d ON d.handle = j.handle
WHERE j.id = ? AND coalesce(f.expires > ?, 1)
"""


def find(connection: sqlite3.Connection, id: str) -> Optional[Tuple[int, JobView]]:
    """A job and its handle; None if it is unknown or has expired."""
    row = connection.execute(_FIND, (id, now_ms())).fetchone()
    return None if row is None else (int(row[0]), view_of(row))


def has_ended(connection: sqlite3.Connection, handle: int) -> bool:
    """Whether a job that was found before has ended since, or is gone."""
    ended, there = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM finished WHERE handle = ?) OR EXISTS (SELECT 1 FROM dead WHERE handle = ?),"
        " EXISTS (SELECT 1 FROM jobs WHERE handle = ?)",
        (handle, handle, handle),
    ).fetchone()
    return bool(ended or not there)


def find_group(connection: sqlite3.Connection, id: str) -> Optional[GroupView]:
    """How far a group is; None if it is unknown or has expired."""
    row = connection.execute(
        "SELECT total, finished, failed, ended NOTNULL FROM groups WHERE id = ? AND coalesce(expires > ?, 1)",
        (id, now_ms()),
    ).fetchone()
    return None if row is None else GroupView(id, row[0], row[1], row[2], bool(row[3]))


def group_members(connection: sqlite3.Connection, id: str) -> List[str]:
    """The members of a group that are still there, in their order."""
    rows = connection.execute(
        "SELECT jobs.id FROM groups CROSS JOIN jobs INDEXED BY jobs_grp USING (grp) WHERE groups.id = ? ORDER BY handle",
        (id,),
    )
    return [str(row[0]) for row in rows]


def view_of(row: Tuple[Any, ...]) -> JobView:
    """A job from a row with the columns of `_FIND`."""
    _, id, queue, task, payload, enqueued, due, ended, failures, losses, result, error, place, progress, history, started = row
    error = None if error is None else _error(json.loads(error))
    attempts = () if history is None else tuple(_attempt(value) for value in json.loads(history))
    return JobView(
        id=id,
        queue=queue,
        task=task,
        arguments=payload,
        state=State(place).named(error),
        enqueued=instant(enqueued),
        due=instant(due),
        ended=instant(ended),
        failures=failures or 0,
        losses=losses or 0,
        result=None if result is None else decode(result),
        error=error,
        progress=None if progress is None else Progress.read(progress),
        attempts=attempts,
        started=attempts[-1].started if attempts and place == "dead" else instant(started),
    )


def _attempt(value: Dict[str, Any]) -> Attempt:
    return Attempt(
        _error(value.get("error") or {}), instant(value.get("started")), instant(value.get("ended")), value.get("worker")
    )


def _error(value: Dict[str, Any]) -> JobError:
    kind, message, detail = (value.get(name, "") for name in ("kind", "message", "detail"))
    return JobError(kind, message, detail, value.get("death"))


def instant(ms: Optional[int]) -> Optional[datetime]:
    """A time as it is stored."""
    return None if ms is None else datetime.fromtimestamp(ms / 1000, timezone.utc)


def now_ms() -> int:
    """Now, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
