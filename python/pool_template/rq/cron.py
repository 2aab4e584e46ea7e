"""RQ's cron jobs: what `rq cron MODULE` enqueues, as data for the supervisor, which fires each due time once.

Source: `rq/cron.py`, `CronScheduler.load_config_from_file`, `CronJob.enqueue`; `rq/queue.py`, `_prepare_for_queue`.
"""

from __future__ import annotations

import base64
import os
from typing import Any

import redis

from pool_template.rq.code import RqCode

#: Fields of a job's hash that say when it was made. The supervisor sets them.
_OF_THE_MOMENT = ("created_at", "enqueued_at")


def facts(module: str, code: RqCode) -> dict[str, Any]:
    """The cron jobs of a module or file, each with the fields of the jobs that it makes, in base64."""
    from rq.cron import CronJob, CronScheduler

    # Nothing here speaks to a server: RQ's classes only want to have a connection.
    connection = redis.Redis()
    scheduler = CronScheduler(connection=connection)
    scheduler.load_config_from_file(module)
    jobs = [_entry(cron_job, code, connection) for cron_job in scheduler.get_jobs()]
    # RQ 3 goes by local time and keeps a history; RQ 2 goes by UTC and keeps none.
    is_rq_3 = hasattr(CronJob, "job_history_key")
    zone = os.environ.get("TZ") or None if is_rq_3 else "UTC"
    return {"module": module, "jobs": jobs, "time_zone": zone, "keeps_history": is_rq_3}


def _entry(cron_job: Any, code: RqCode, connection: Any) -> dict[str, Any]:
    queue = code.queue(cron_job.queue_name, connection)
    options = dict(cron_job.job_options)
    timeout = options.pop("job_timeout", None)
    job = queue.create_job(
        cron_job.func, args=cron_job.args, kwargs=cron_job.kwargs, timeout=timeout, **options
    )
    job.origin = queue.name
    fields = job.to_dict(include_meta=True)
    kept = {name: value for name, value in fields.items() if name not in _OF_THE_MOMENT}
    return {
        # Before RQ 3 a cron job had no name of its own.
        "name": getattr(cron_job, "name", None) or cron_job.func_name,
        "queue": queue.name,
        "cron": cron_job.cron,
        "interval_s": cron_job.interval,
        "ttl_s": job.ttl,
        "shown": _shown(cron_job),
        "fields": {name: base64.b64encode(_encoded(value)).decode() for name, value in kept.items()},
    }


def _shown(cron_job: Any) -> Any:
    """What RQ's tools are told of it, without the times that only who fires it knows. None: RQ 2 tells them nothing."""
    if not hasattr(cron_job, "to_dict"):
        return None
    return {**cron_job.to_dict(), "latest_enqueue_time": None, "next_enqueue_time": None}


def _encoded(value: Any) -> bytes:
    """A value of a hash, as redis-py sends it."""
    return value if isinstance(value, bytes) else str(value).encode()
