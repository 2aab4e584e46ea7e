"""How the outcome of a job is told to the broker."""

from __future__ import annotations

from typing import Any, Callable, Optional

import pool_job
from rq.job import Retry
from rq.results import UNSERIALIZABLE_RETURN_VALUE_PAYLOAD

from pool_template.jobs import errors, frames, retries
from pool_template.jobs.loop import Outcome

NO_RESULT: Outcome = (frames.SUCCESS, frames.AFTER_BY_POLICY, b"")
SETTLED: Outcome = (frames.SETTLED, frames.AFTER_BY_POLICY, b"")
#: Results of these types are neither coroutines nor `Retry`.
VALUES = frozenset((str, int, float, bool, bytes, list, dict, tuple))


def success(value: Any, dumps: Callable[[Any], bytes], max_result: int) -> Optional[Outcome]:
    """A job returned this. None: the rest is RQ's own code's."""
    if value is None:
        return NO_RESULT
    if type(value) not in VALUES and isinstance(value, Retry):
        return None
    try:
        data = dumps(value)
    except Exception:
        data = dumps(UNSERIALIZABLE_RETURN_VALUE_PAYLOAD)
    if len(data) > max_result:
        return None  # RQ has no limit, and the supervisor's frames have
    return frames.SUCCESS, frames.AFTER_BY_POLICY, data


def failure(error: BaseException) -> Outcome:
    """A job raised this."""
    if isinstance(error, pool_job.Retry):
        return retries.asked(error)
    text = errors.whole_traceback_of(error)
    data = errors.encode(errors.kind_of(error), errors.message_of(error), text)
    return frames.FAILURE, frames.AFTER_BY_POLICY, data
