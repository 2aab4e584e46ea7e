"""What the client and its brokers say to each other: jobs, groups, and what became of them."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple, Optional, Sequence, Tuple, Union

from poolhouse.errors import Refused

#: Longest id, and name of a queue, task or key, in bytes.
NAME_LEN_MAX = 255
#: The queue of jobs that name none.
DEFAULT_QUEUE = "default"
#: The key under which a job whose arguments are an object gets the earlier result of its chain.
PREVIOUS = "previous"
#: The key under which a callback whose arguments are an object gets the summary of its group.
GROUP = "group"
#: Jobs of one group, and of one chain, at the most.
GROUP_LEN_MAX, CHAIN_LEN_MAX = 100_000, 1_000


class State(str, enum.Enum):
    """Where a job is. Those that were canceled are among the dead letters, and have a name of their own."""

    WAITING = "waiting"
    #: As many jobs of its key run as may.
    BLOCKED = "blocked"
    SCHEDULED = "scheduled"
    #: Waits for other jobs to end.
    DEFERRED = "deferred"
    RUNNING = "running"
    FINISHED = "finished"
    #: Failed for good.
    DEAD = "dead"
    #: Somebody canceled it before it began, or it expired.
    CANCELED = "canceled"

    @property
    def is_final(self) -> bool:
        """Nothing more happens unless somebody asks."""
        return self in (State.FINISHED, State.DEAD, State.CANCELED)

    def named(self, error: Optional[JobError]) -> State:
        """The state of a job at this place, with this error."""
        return State.CANCELED if self is State.DEAD and error is not None and error.never_ran else self

    @property
    def place(self) -> State:
        """Where jobs of this state are."""
        return State.DEAD if self is State.CANCELED else self


class Canceled(str, enum.Enum):
    """What became of a request to cancel a job."""

    #: It is canceled and never runs.
    DONE = "done"
    #: A supervisor holds it and was asked. What its state says in the end holds.
    ASKED = "asked"
    #: It has begun, and runs on.
    RUNS = "runs"
    #: It had ended.
    ENDED = "ended"
    #: There is no such job.
    UNKNOWN = "unknown"


class NewJob(NamedTuple):
    """A job as its producer asks for it. Times are in milliseconds, instants since 1970 (UTC)."""

    id: str
    queue: str
    task: str
    #: JSON, by the rules of `payload`.
    arguments: bytes
    due_ms: Optional[int] = None
    at_front: bool = False
    timeout_ms: Optional[int] = None
    retries: Optional[int] = None
    result_ttl_ms: Optional[int] = None
    unique_key: Optional[str] = None
    #: The producer chose the id, so that it may be taken.
    id_is_chosen: bool = False
    #: It never runs if it has not begun by this time.
    begin_by_ms: Optional[int] = None
    #: A key, and how many jobs with it run at once.
    limit: Optional[Tuple[str, int]] = None


class Enqueued(NamedTuple):
    """What became of a new job."""

    #: The job that stands for the request now.
    id: str
    #: False: a job that has not ended holds its key, and nothing was enqueued.
    is_new: bool
    #: When, as the broker has it; None: it is not new.
    at: Optional[datetime] = None


@dataclass(frozen=True)
class NewGroup:
    """A group as its producer asks for it."""

    id: str
    jobs: Sequence[NewJob]
    #: Runs once, when all have ended, well or not.
    on_done: Optional[NewJob] = None
    #: Runs once, as soon as the first has failed for good.
    on_failure: Optional[NewJob] = None

    def callbacks(self) -> list[NewJob]:
        """Those that it has."""
        return [job for job in (self.on_done, self.on_failure) if job is not None]


@dataclass(frozen=True)
class JobError:
    """Why a run of a job failed."""

    kind: str
    message: str
    detail: str = ""
    death: Optional[dict[str, Any]] = None
    """How the process that ran it ended, where that is what went wrong: `exit_code`, `signal`, `out_of_memory`,
    `peak_memory` in bytes, `killed_for`."""

    @property
    def is_cancellation(self) -> bool:
        """Somebody, or time, called the job off."""
        return self.kind in ("canceled", "stopped", "expired")

    @property
    def never_ran(self) -> bool:
        """It was called off before it began."""
        return self.kind in ("canceled", "expired")


@dataclass(frozen=True)
class Progress:
    """How far a running job says that it is."""

    #: From 0 to 1; None: it does not know.
    fraction: Optional[float] = None
    #: What it does.
    message: str = ""

    @classmethod
    def read(cls, noted: Union[str, bytes]) -> Progress:
        """Reads the JSON that a supervisor notes."""
        value = json.loads(noted)
        return cls(value.get("fraction"), value.get("message", ""))


@dataclass(frozen=True)
class Attempt:
    """A run that did not succeed, as far as the broker knows it."""

    #: Why, without a traceback: the job's own error has that of the last one.
    error: JobError
    started: Optional[datetime] = None
    ended: Optional[datetime] = None
    #: The worker that ran it: its number, or its name.
    worker: Optional[str] = None

    @property
    def duration(self) -> Optional[timedelta]:
        """How long it took; None: that is not known."""
        return None if self.started is None or self.ended is None else self.ended - self.started


@dataclass(frozen=True)
class JobView:
    """A job as it is now."""

    id: str
    queue: str
    task: str
    #: JSON, by the rules of `payload`.
    arguments: bytes
    state: State
    enqueued: Optional[datetime]
    #: When it is due, if it is scheduled.
    due: Optional[datetime]
    ended: Optional[datetime]
    #: Runs that failed; None: nobody counted them.
    failures: Optional[int]
    #: Runs that ended with their worker's death; None: nobody counted them.
    losses: Optional[int]
    #: What it returned, if it finished.
    result: Any
    #: Why it failed last.
    error: Optional[JobError]
    #: How far it is, while it runs and if it says so.
    progress: Optional[Progress] = None
    #: Runs that did not succeed, the oldest first: the last ten, as far as the broker keeps them.
    attempts: Tuple[Attempt, ...] = ()
    #: When its last run began, as far as the broker keeps it.
    started: Optional[datetime] = None


@dataclass(frozen=True)
class GroupView:
    """How far a group is. `finished` and `failed` are None where nobody counts."""

    id: str
    total: int
    finished: Optional[int]
    failed: Optional[int]
    is_ended: bool


@lru_cache(maxsize=4096)
def check_name(name: str, what: str) -> str:
    """A name of 1 to 255 bytes without control characters; raises `Refused`."""
    if not isinstance(name, str):
        raise Refused(f"{what} is {name!r}; expected a text")
    if not name:
        raise Refused(f"{what} is empty")
    length = len(name.encode(errors="surrogatepass"))
    if length > NAME_LEN_MAX:
        raise Refused(f"{what} is {length} bytes long, above the limit of {NAME_LEN_MAX}")
    # The control characters of Unicode: C0, DEL and C1. A lone surrogate is no character at all.
    wrong = next((c for c in name if c < " " or "\x7f" <= c <= "\x9f" or "\ud800" <= c <= "\udfff"), None)
    if wrong is not None:
        raise Refused(f"{what} contains the control character {wrong!r}")
    return name
