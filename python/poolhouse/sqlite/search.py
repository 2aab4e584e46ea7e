"""Looking through the jobs of the file: each place in the order of an index, some rows at a time."""

from __future__ import annotations

import sqlite3
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from poolhouse.filter import JobFilter
from poolhouse.model import State
from poolhouse.sqlite.read import now_ms, view_of


class _Place(NamedTuple):
    """How a place is gone through."""

    #: Its table, `p`.
    table: str
    #: The order of its rows: by two numbers. The first is a constant where one is enough.
    key: Tuple[str, str]
    #: What is shown as its due time and as its end.
    due: str = "NULL"
    ended: str = "NULL"
    #: The next due first; else the newest.
    rises: bool = False
    #: Its rows of one queue stand together.
    is_by_queue: bool = False
    #: Rows that are not there any more.
    gone: str = "0"


_BY_QUEUE, _BY_HANDLE = ("p.queue", "p.position"), ("0", "p.handle")
#: By the indexes of the schema, so that no row is read before its turn: those of `src/broker/sqlite/search.rs`.
_PLACES: Dict[State, _Place] = {
    State.RUNNING: _Place("running p", _BY_HANDLE),
    State.WAITING: _Place("waiting p", _BY_QUEUE, is_by_queue=True),
    State.BLOCKED: _Place("blocked p INDEXED BY blocked_queue", _BY_QUEUE, is_by_queue=True),
    State.SCHEDULED: _Place("scheduled p INDEXED BY scheduled_due", ("p.due", "p.handle"), due="p.due", rises=True),
    State.DEFERRED: _Place("deferred p", _BY_HANDLE),
    State.DEAD: _Place("dead p INDEXED BY dead_ended", ("p.ended", "p.handle"), ended="p.ended"),
    State.FINISHED: _Place("finished p", _BY_HANDLE, ended="p.ended", gone="p.expires <= ?"),
}
_LOWEST, _HIGHEST = -(1 << 63), (1 << 63) - 1


def search(connection: sqlite3.Connection, filter: JobFilter, most: int, after: Any) -> Tuple[List[str], Any]:
    """One step. `after`: which of the filter's places is next, and the position in it; None: its beginning."""
    places = filter.places()
    at, position = after or (0, None)
    place = _PLACES[places[at]]
    rows = connection.execute(*_query(places[at], place, filter.queue, most, position)).fetchall()
    found = [str(row[1]) for row in rows if _is_wanted(row, filter)]
    if len(rows) == most and not _is_past(rows[-1], places[at], filter):
        return found, (at, rows[-1][-2:])
    return found, None if at + 1 == len(places) else (at + 1, None)


def _query(
    state: State, place: _Place, queue: Optional[str], most: int, position: Optional[Tuple[int, int]]
) -> Tuple[str, List[Any]]:
    major, minor = place.key
    is_behind, direction, start = (">", "ASC", _LOWEST) if place.rises else ("<", "DESC", _HIGHEST)
    values: List[Any] = []
    if queue is not None and place.is_by_queue:
        condition = "p.queue = (SELECT queue FROM queues WHERE name = ?) AND "
        values.append(queue)
        major = "0"
    else:
        condition = ""
    if major == "0":
        condition += f"{minor} {is_behind} ?"
        values.append(start if position is None else position[1])
        order = f"{minor} {direction}"
    else:
        condition += f"({major}, {minor}) {is_behind} (?, ?)"
        values.extend((start, start) if position is None else position)
        order = f"{major} {direction}, {minor} {direction}"
    if "?" in place.gone:
        values.append(now_ms())
    return (
        f"SELECT j.handle, j.id, q.name, j.task, x'', j.enqueued, {place.due}, {place.ended}, a.failures, a.losses, NULL,"
        f" a.error, '{state.value}', NULL, NULL, NULL, {major}, {minor} FROM {place.table} CROSS JOIN jobs j ON j.handle = p.handle"
        " CROSS JOIN queues q ON q.queue = j.queue LEFT JOIN attempts a ON a.handle = p.handle"
        f" WHERE {condition} AND NOT ({place.gone}) ORDER BY {order} LIMIT ?"
    ), [*values, most]


def _is_past(row: Tuple[Any, ...], state: State, filter: JobFilter) -> bool:
    """Whether all behind this dead letter ended too early."""
    return state is State.DEAD and filter.since is not None and row[7] < filter.since.timestamp() * 1000


def _is_wanted(row: Tuple[Any, ...], filter: JobFilter) -> bool:
    _, _, queue, task, *_ = row
    return filter.queue in (None, queue) and filter.task in (None, task) and filter.matches(view_of(row[:-2]))
