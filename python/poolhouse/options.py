"""How a job is to run, apart from its arguments."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace
from datetime import datetime, timezone
from typing import Any, Mapping, Optional, Tuple, TypedDict

from poolhouse.duration import Duration, milliseconds
from poolhouse.errors import Refused
from poolhouse.ids import new_id
from poolhouse.model import DEFAULT_QUEUE, NewJob, check_name

#: The largest number of retries that a broker holds.
_RETRIES_MAX = (1 << 32) - 1
#: The largest number of jobs of a limit.
_LIMIT_MAX = (1 << 32) - 1


class OptionArguments(TypedDict, total=False):
    """The fields of `Options` as keyword arguments, for type checkers."""

    queue: Optional[str]
    delay: Optional[Duration]
    at: Optional[datetime]
    key: Optional[str]
    id: Optional[str]
    timeout: Optional[Duration]
    retries: Optional[int]
    result_ttl: Optional[Duration]
    front: bool
    expires: Optional[Duration]
    limit: Optional[Tuple[str, int]]


@dataclass(frozen=True)
class Options:
    """None: what the task or the pool says. Lengths of time are texts such as "5m", seconds, or a `timedelta`."""

    queue: Optional[str] = None
    #: Not before so much time has passed.
    delay: Optional[Duration] = None
    #: Not before this instant; without a time zone it is local time.
    at: Optional[datetime] = None
    #: While a job with this key has not ended, another one is not enqueued.
    key: Optional[str] = None
    #: Its id, which no other job has; one is made if there is none.
    id: Optional[str] = None
    #: Longest run.
    timeout: Optional[Duration] = None
    #: Runs after the first one that failed.
    retries: Optional[int] = None
    #: How long the result can be read; 0: none is kept.
    result_ttl: Optional[Duration] = None
    #: Ahead of all that wait in its queue.
    front: bool = False
    #: It never runs if it has not begun after so much time.
    expires: Optional[Duration] = None
    #: A key, and how many jobs with it run at once: ("database", 3).
    limit: Optional[Tuple[str, int]] = None

    def having(self, options: Mapping[str, Any]) -> Options:
        """The same with these in their places. Raises `TypeError` for one that there is not."""
        names = [field.name for field in fields(self)]
        unknown = next((name for name in options if name not in names), None)
        if unknown is not None:
            raise TypeError(
                f"there is no option {unknown!r}; there are {', '.join(names)} (the arguments of a job are never among them)"
            )
        return replace(self, **options)

    def checked(self, task: str) -> Options:
        """The same, once it is sure that a job of this task can have them. Raises `Refused`, or `ValueError` for a time."""
        self.job(task, b"")
        for what in ("queue", "key", "id"):
            name = getattr(self, what)
            if name is not None:
                check_name(name, f"{what} of a job of `{task}`")
        return self

    def job(self, task: str, arguments: bytes, id: Optional[str] = None) -> NewJob:
        """A job of this task; `id`: one that was made for it."""
        if self.delay is not None and self.at is not None:
            raise Refused(f"a job of `{task}` has both `delay` and `at`")
        retries = self.retries
        if retries is not None and not _is_count(retries, 0, _RETRIES_MAX):
            raise Refused(f"retries is {retries!r}; expected a whole number, 0 or more")
        return NewJob(
            self.id if self.id is not None else id or new_id(),
            DEFAULT_QUEUE if self.queue is None else self.queue,
            task,
            arguments,
            self._due_ms(),
            bool(self.front),
            _length(self.timeout, "timeout", 1),
            retries,
            _length(self.result_ttl, "result_ttl", 0),
            self.key,
            self.id is not None,
            self._begin_by_ms(),
            None if self.limit is None else _checked_limit(self.limit, task),
        )

    def _begin_by_ms(self) -> Optional[int]:
        expires_ms = _length(self.expires, "expires", 1)
        return None if expires_ms is None else time.time_ns() // 1_000_000 + expires_ms

    def _due_ms(self) -> Optional[int]:
        if self.delay is not None:
            return time.time_ns() // 1_000_000 + milliseconds(self.delay, "delay")
        if self.at is not None:
            if not isinstance(self.at, datetime):
                raise Refused(f"at is {self.at!r}; expected a datetime, such as datetime.now() + timedelta(hours=1)")
            return round(self.at.astimezone(timezone.utc).timestamp() * 1000)
        return None


def _checked_limit(limit: Tuple[str, int], task: str) -> Tuple[str, int]:
    try:
        key, most = limit
    except (TypeError, ValueError):
        key, most = "", 0
    if not (isinstance(key, str) and _is_count(most, 1, _LIMIT_MAX)):
        raise Refused(f'the limit of a job of `{task}` is {limit!r}; expected a key and a number, such as ("database", 3)')
    return check_name(key, "the key of its limit"), most


def _is_count(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _length(duration: Optional[Duration], what: str, at_least_ms: int) -> Optional[int]:
    if duration is None:
        return None
    ms = milliseconds(duration, what)
    if ms < at_least_ms:
        raise Refused(f"{what} is {duration!r}; expected more than nothing")
    return ms
