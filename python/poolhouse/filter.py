"""Which jobs are looked for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, FrozenSet, Iterable, List, Mapping, Optional, Tuple, Union

from poolhouse import payload
from poolhouse.duration import Duration, milliseconds
from poolhouse.errors import Refused
from poolhouse.model import JobView, State

#: Where jobs can be, in the order in which a search goes through them.
PLACES = (
    State.RUNNING,
    State.WAITING,
    State.BLOCKED,
    State.SCHEDULED,
    State.DEFERRED,
    State.DEAD,
    State.FINISHED,
)
#: Other words for one.
_ALIASES = {"failed": State.DEAD.value}

#: The names of states, one or several.
States = Union[str, Iterable[str], None]


@dataclass(frozen=True)
class JobFilter:
    """Conditions that all hold for a job that is looked for. None, and no state: any will do."""

    states: FrozenSet[str] = frozenset()
    queue: Optional[str] = None
    task: Optional[str] = None
    #: Its error has this text somewhere, in upper or lower case.
    error: Optional[str] = None
    #: It ended then or later; one that has not ended was enqueued then.
    since: Optional[datetime] = None
    #: Its arguments have these values: the steps to each, and the value.
    arguments: Tuple[Tuple[Tuple[str, ...], Any], ...] = ()

    @classmethod
    def of(
        cls,
        state: States,
        queue: Optional[str] = None,
        task: Optional[str] = None,
        error: Optional[str] = None,
        since: Union[Duration, datetime, None] = None,
        arguments: Optional[Mapping[str, Any]] = None,
    ) -> JobFilter:
        """As an application says it. Raises `Refused` for a state that there is not, and for what is no path."""
        states = [state] if isinstance(state, str) else list(state or ())
        names = [each.value if isinstance(each, State) else _ALIASES.get(each, each) for each in states]
        names_of_all = [known.value for known in State]
        unknown = next((name for name in names if name not in names_of_all), None)
        if unknown is not None:
            raise Refused(f"there is no state {unknown!r}; expected one of {', '.join(names_of_all)}")
        for what, text in (("queue", queue), ("task", task), ("error", error)):
            if text is not None and not isinstance(text, str):
                raise Refused(f"{what} is {text!r}; expected a text")
        if arguments is not None and not isinstance(arguments, Mapping):
            raise Refused(f"arguments is {arguments!r}; expected a mapping of paths to values, such as {{\"order.id\": 42}}")
        paths = tuple((_steps(path), _json(value)) for path, value in (arguments or {}).items())
        return cls(frozenset(names), queue, task, error, _instant(since), paths)

    def places(self) -> List[State]:
        """Where such jobs can be."""
        wanted = {state.place for state in State if self._wants(state)}
        return [place for place in PLACES if place in wanted]

    def is_only_of_places(self) -> bool:
        """Whether each job of its places and its queue matches, but for dead letters, which have two names."""
        return self.task is None and self.error is None and self.since is None

    def wants_dead(self, never_ran: bool) -> bool:
        """Whether dead letters are looked for of jobs that failed, or that never ran."""
        return self._wants(State.CANCELED if never_ran else State.DEAD)

    def matches_all(self, job: JobView) -> bool:
        """Whether all conditions hold for a job."""
        return self.matches(job) and self._has_arguments(job.arguments)

    def matches(self, job: JobView) -> bool:
        """Whether all conditions hold for a job but those of its arguments, which a search does not read."""
        return (
            self._wants(job.state)
            and self.queue in (None, job.queue)
            and self.task in (None, job.task)
            and (self.since is None or (job.ended or job.enqueued or self.since) >= self.since)
            and (self.error is None or _has_error(job, self.error.lower()))
        )

    def _has_arguments(self, payload: bytes) -> bool:
        if not self.arguments:
            return True
        try:
            given = json.loads(payload)
        except (ValueError, RecursionError):  # also where there are none
            return False
        # Where positional and named arguments were given both, a value may be among either.
        roots = [given, *(given.get(part) for part in ("kwargs", "args"))] if isinstance(given, dict) else [given]
        return all(any(_is_at(steps, value, root) for root in roots) for steps, value in self.arguments)

    def _wants(self, state: State) -> bool:
        return not self.states or state.value in self.states


def _has_error(job: JobView, text: str) -> bool:
    kept = () if job.error is None else (f"{job.error.kind}: {job.error.message}", job.error.detail)
    return any(text in each.lower() for each in kept)


def _steps(path: str) -> Tuple[str, ...]:
    if not isinstance(path, str) or not path:
        raise Refused(f"{path!r} is no path of an argument; expected one such as \"to\", \"order.id\" or \"0\"")
    return tuple(path.split("."))


def _json(value: Any) -> Any:
    """The value as a job's arguments could have it."""
    return json.loads(payload.encode(value, "the value of an argument"))


def _is_at(steps: Tuple[str, ...], wanted: Any, value: Any) -> bool:
    """Whether keys, and positions in lists, lead to this value."""
    for step in steps:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return False
    # To Python, 1 is True.
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _instant(since: Union[Duration, datetime, None]) -> Optional[datetime]:
    if since is None or isinstance(since, datetime):
        return since if since is None else since.astimezone(timezone.utc)
    return datetime.now(timezone.utc) - timedelta(milliseconds=milliseconds(since, "since"))
