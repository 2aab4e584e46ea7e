"""A job that asks to be run again: `pool_job.Retry`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pool_template.jobs import errors, frames

if TYPE_CHECKING:
    import pool_job
    from pool_template.jobs.loop import Outcome

_AFTER_MS_MAX = frames.AFTER_BY_POLICY - 1


def asked(retry: pool_job.Retry) -> Outcome:
    """What becomes of the job that raised it: the supervisor knows whether it has a retry left."""
    after_ms = frames.AFTER_BY_POLICY
    if retry.after_s is not None:
        after_ms = min(round(retry.after_s * 1000), _AFTER_MS_MAX)
    return frames.RETRY, after_ms, errors.message_of(retry).encode(errors="replace")
