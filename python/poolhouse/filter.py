"""Which jobs are looked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import FrozenSet, Iterable, List, Optional, Union

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
#: A state as people name it: as in `State`, and a dead letter that never ran has a name of its own.
CANCELED = "canceled"
_NAMES = (*(place.value for place in PLACES), CANCELED)
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

    @classmethod
    def of(
        cls,
        state: States,
        queue: Optional[str],
        task: Optional[str],
        error: Optional[str],
        since: Union[Duration, datetime, None],
    ) -> JobFilter:
        """As an application says it. Raises `Refused` for a state that there is not."""
        states = [state] if isinstance(state, str) else list(state or ())
        names = [each.value if isinstance(each, State) else _ALIASES.get(each, each) for each in states]
        unknown = next((name for name in names if name not in _NAMES), None)
        if unknown is not None:
            raise Refused(f"there is no state {unknown!r}; expected one of {', '.join(_NAMES)}")
        return cls(frozenset(names), queue, task, error, _instant(since))

    def places(self) -> List[State]:
        """Where such jobs can be."""
        return [place for place in PLACES if self._wants(place.value) or (place is State.DEAD and self._wants(CANCELED))]

    def is_only_of_places(self) -> bool:
        """Whether each job of its places and its queue matches, but for dead letters, which have two names."""
        return self.task is None and self.error is None and self.since is None

    def wants_dead(self, never_ran: bool) -> bool:
        """Whether dead letters are looked for of jobs that failed, or that never ran."""
        return self._wants(CANCELED if never_ran else State.DEAD.value)

    def matches(self, job: JobView) -> bool:
        """Whether all conditions hold for a job."""
        never_ran = job.error is not None and job.error.never_ran
        return (
            (self.wants_dead(never_ran) if job.state is State.DEAD else self._wants(job.state.value))
            and self.queue in (None, job.queue)
            and self.task in (None, job.task)
            and (self.since is None or (job.ended or job.enqueued or self.since) >= self.since)
            and (self.error is None or _has_error(job, self.error.lower()))
        )

    def _wants(self, name: str) -> bool:
        return not self.states or name in self.states


def _has_error(job: JobView, text: str) -> bool:
    kept = () if job.error is None else (f"{job.error.kind}: {job.error.message}", job.error.detail)
    return any(text in each.lower() for each in kept)


def _instant(since: Union[Duration, datetime, None]) -> Optional[datetime]:
    if since is None or isinstance(since, datetime):
        return since if since is None else since.astimezone(timezone.utc)
    return datetime.now(timezone.utc) - timedelta(milliseconds=milliseconds(since, "since"))
