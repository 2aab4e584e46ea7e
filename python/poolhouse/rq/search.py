"""Looking through RQ's jobs: the lists and sorted sets that hold their ids, queue by queue."""

from __future__ import annotations

from typing import Any, FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

from poolhouse.filter import JobFilter
from poolhouse.model import State
from poolhouse.rq.look import Look
from poolhouse.rq.rows import PREFIX

#: Those that are blocked: a set for each rate limit.
_RATE_LIMITED = "rate_limited"
#: What holds the ids of the jobs of a queue, by the word in its key. Source: `rq/registry.py`, `rq/queue.py`,
#: `rq/rate_limit.py`.
_HOLDERS = {
    State.RUNNING: ("wip",),
    State.WAITING: ("queue",),
    State.BLOCKED: (_RATE_LIMITED,),
    State.SCHEDULED: ("scheduled",),
    State.DEFERRED: ("deferred",),
    State.DEAD: ("failed", "canceled"),
    State.FINISHED: ("finished",),
}


class _Holder(NamedTuple):
    """A list or sorted set of ids."""

    word: str
    key: str

    @property
    def is_list(self) -> bool:
        return self.word == "queue"

    def ids(self, members: Sequence[bytes]) -> List[str]:
        """The jobs that these members name. Source: `rq/executions.py`, `Execution.composite_key`."""
        names = [member.decode() for member in members]
        return [name.rsplit(":", 1)[0] for name in names] if self.word == "wip" else names


class _Position(NamedTuple):
    """Where a search goes on."""

    #: The holder that is next, and those behind it.
    holders: Tuple[_Holder, ...]
    #: Of a list: how many of its ids are still to come. They stand at its older end.
    end: Optional[int] = None
    #: Those that came last: they come again if workers have taken some at the older end since.
    before: FrozenSet[bytes] = frozenset()
    #: Of a sorted set: the member that was looked at last, and its score.
    last: Optional[Tuple[bytes, float]] = None


class Search:
    """Goes through what this Redis holds."""

    def __init__(self, redis: Any, look: Look) -> None:
        self._redis, self._look = redis, look

    def step(self, filter: JobFilter, most: int, after: Optional[_Position]) -> Tuple[List[str], Optional[_Position]]:
        """See `broker.Broker.search`."""
        position = after or _Position(self._holders(filter))
        if not position.holders:
            return [], None
        holder, *rest = position.holders
        read = self._of_list if holder.is_list else self._of_set
        members, following = read(holder, most, position)
        ids = list(dict.fromkeys(holder.ids(members)))
        if not filter.is_only_of_places() or holder.word == _RATE_LIMITED:
            views = self._look.find(ids)
            ids = [view.id for view in views if view is not None and filter.matches(view)]
        if following is None:
            following = _Position(tuple(rest)) if rest else None
        return ids, following

    def _holders(self, filter: JobFilter) -> Tuple[_Holder, ...]:
        words = [word for place in filter.places() for word in _HOLDERS[place]]
        if not filter.wants_dead(never_ran=True):
            words = [word for word in words if word != "canceled"]
        if not filter.wants_dead(never_ran=False):
            words = [word for word in words if word != "failed"]
        queues, holders = self._queues(filter), []
        for word in words:
            if word == _RATE_LIMITED:
                limits = sorted(limit.decode() for limit in self._redis.smembers(f"{PREFIX}:rl-keys"))
                holders += [_Holder(word, f"{PREFIX}:rl:{limit}:{word}") for limit in limits]
            else:
                holders += [_Holder(word, f"{PREFIX}:{word}:{queue}") for queue in queues]
        return tuple(holders)

    def _queues(self, filter: JobFilter) -> List[str]:
        if filter.queue is not None:
            return [filter.queue]
        start = f"{PREFIX}:queue:"
        return sorted(key.decode()[len(start) :] for key in self._redis.smembers(f"{PREFIX}:queues"))

    def _of_list(self, holder: _Holder, most: int, position: _Position) -> Tuple[List[bytes], Optional[_Position]]:
        end = self._redis.llen(holder.key) if position.end is None else position.end
        start = max(end - most, 0)
        members = self._redis.lrange(holder.key, start, end - 1)[::-1] if end else []
        fresh = [member for member in members if member not in position.before]
        return fresh, position._replace(end=start, before=frozenset(members)) if start else None

    def _of_set(self, holder: _Holder, most: int, position: _Position) -> Tuple[List[bytes], Optional[_Position]]:
        rises = holder.word == "scheduled"
        start = 0 if position.last is None else self._ahead(holder.key, *position.last, rises)
        read = self._redis.zrange if rises else self._redis.zrevrange
        scored = read(holder.key, start, start + most - 1, withscores=True)
        members = [member for member, _ in scored]
        return members, position._replace(last=scored[-1]) if len(scored) == most else None

    def _ahead(self, key: str, member: bytes, score: float, rises: bool) -> int:
        """How many members stand ahead of what comes behind this one."""
        rank = (self._redis.zrank if rises else self._redis.zrevrank)(key, member)
        if rank is not None:
            return int(rank) + 1
        # It has gone: those of its score may come twice.
        edge = ("-inf", f"({score!r}") if rises else (f"({score!r}", "+inf")
        return int(self._redis.zcount(key, *edge))
