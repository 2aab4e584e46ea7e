"""What became of jobs in Redis."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import Any, List, Optional, Sequence, Tuple

from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.results import Result

from poolhouse.model import Attempt, JobError, JobView, Progress, State
from poolhouse.rq.rows import PREFIX

_STATES = {
    JobStatus.QUEUED: State.WAITING,
    JobStatus.SCHEDULED: State.SCHEDULED,
    JobStatus.DEFERRED: State.DEFERRED,
    JobStatus.STARTED: State.RUNNING,
    JobStatus.FINISHED: State.FINISHED,
    JobStatus.FAILED: State.DEAD,
    JobStatus.STOPPED: State.DEAD,
    JobStatus.CANCELED: State.DEAD,
}
if hasattr(JobStatus, "RATE_LIMITED"):  # from RQ 3 on
    _STATES[JobStatus.RATE_LIMITED] = State.BLOCKED
#: What a kept result tells of a run that did not succeed.
_FAILED, _STOPPED = {"FAILED", "RETRIED", "MAX_RETRIES_EXCEEDED"}, "STOPPED"
#: Longest message of an attempt, in characters.
_MESSAGE_LEN_MAX = 500
#: The field in which a supervisor notes how far a job says that it is.
_PROGRESS = "pool_progress"
#: The last line of a traceback that begins an exception: its type without the module, and its message.
_RAISED = re.compile(r"^(?:[\w.]*\.)?(\w+)(?:: (.*))?$", re.DOTALL)


class Look:
    """Reads jobs and their results."""

    def __init__(self, redis: Any, serializer: Any) -> None:
        self._redis, self._serializer = redis, serializer

    def find(self, ids: Sequence[str]) -> List[Optional[JobView]]:
        """One answer an id, in order."""
        try:
            jobs = Job.fetch_many(ids, self._redis, serializer=self._serializer) if ids else []
        except NoSuchJobError:  # one that is written half
            jobs = [self._fetch(id) for id in ids]
        return [None if job is None else self._view(job) for job in jobs]

    def _fetch(self, id: str) -> Optional[Job]:
        try:
            return Job.fetch(id, connection=self._redis, serializer=self._serializer)
        except NoSuchJobError:
            return None

    def _view(self, job: Job) -> JobView:
        status = job.get_status(refresh=False)
        state = _STATES.get(status, State.WAITING)
        result = job.latest_result() if state.is_final else None
        error = _error(status, None if result is None else result.exc_string) if state is State.DEAD else None
        return JobView(
            id=job.id,
            queue=job.origin,
            task=job.func_name or "",
            arguments=_arguments(job),
            state=state.named(error),
            enqueued=_instant(job.enqueued_at or job.created_at),
            due=self._due(job) if state is State.SCHEDULED else None,
            ended=_instant(job.ended_at),
            failures=None,
            losses=None,
            result=None if result is None or state is not State.FINISHED else result.return_value,
            error=error,
            progress=self._progress(job) if state is State.RUNNING else None,
            attempts=_attempts(job) if state.is_final else (),
            started=_instant(job.started_at),
        )

    def _due(self, job: Job) -> Optional[datetime]:
        """RQ keeps it as the score of the job's id among the scheduled ones."""
        at = self._redis.zscore(f"{PREFIX}:scheduled:{job.origin}", job.id)
        return None if at is None else datetime.fromtimestamp(at, tz=timezone.utc)

    def _progress(self, job: Job) -> Optional[Progress]:
        noted = self._redis.hget(job.key, _PROGRESS)
        return None if noted is None else Progress.read(noted)


def results_key(id: str) -> str:
    """The stream of a job's results."""
    key: str = Result.get_key(id)  # type: ignore[no-untyped-call]
    return key


def newest(entries: Any, key: str, seen: str) -> str:
    """Which result of a stream has been seen, after a read beyond the one that was seen before."""
    if not entries:
        return seen
    stream = entries[key.encode()] if isinstance(entries, dict) else entries[0][1]
    while stream and isinstance(stream[0], list):  # as the newer protocol of Redis nests it
        stream = stream[0]
    return str(stream[-1][0].decode())


def _arguments(job: Job) -> bytes:
    both: Any = job.kwargs or list(job.args)
    if job.args and job.kwargs:
        both = {"args": job.args, "kwargs": job.kwargs}
    if not both:
        return b""
    try:
        return json.dumps(both, ensure_ascii=False, default=repr).encode()
    except UnicodeEncodeError:  # a lone surrogate, as of a file's name that is no UTF-8
        return json.dumps(both, default=repr).encode()


def _attempts(job: Job) -> Tuple[Attempt, ...]:
    """The runs that RQ keeps a result of and that did not succeed. It keeps none of one that a retry policy ran again."""
    attempts = []
    for result in reversed(job.results()):
        if result.type.name in _FAILED or result.type.name == _STOPPED:
            status = JobStatus.STOPPED if result.type.name == _STOPPED else JobStatus.FAILED
            error = _error(status, result.exc_string)
            started, ended = (getattr(result, f"execution_{name}_at", None) for name in ("started", "ended"))
            short = JobError(error.kind, error.message[:_MESSAGE_LEN_MAX])
            attempts.append(Attempt(short, _instant(started), _instant(ended), result.worker_name or None))
    return tuple(attempts)


def _error(status: JobStatus, text: Optional[str]) -> JobError:
    """Of a traceback its end says it."""
    text = text or ""
    word = str(status.value)
    if status is not JobStatus.FAILED:
        said = "somebody canceled it before it began" if status is JobStatus.CANCELED else "somebody stopped it while it ran"
        return JobError(word, said, text)
    lines = text.rstrip().splitlines()
    frames = max((at for at, line in enumerate(lines) if line.startswith("  File ")), default=None)
    if frames is not None:
        end = next((at for at in range(frames + 1, len(lines)) if not lines[at].startswith(" ")), None)
        raised = _RAISED.match("\n".join(lines[end:])) if end is not None else None
        if raised is not None:
            return JobError(raised[1], raised[2] or "", text)
    return JobError(word, lines[-1] if lines else "no reason was kept", text)


def _instant(at: Optional[datetime]) -> Optional[datetime]:
    return at.replace(tzinfo=timezone.utc) if at is not None and at.tzinfo is None else at
