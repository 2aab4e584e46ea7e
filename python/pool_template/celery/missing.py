"""What Celery has and is not here yet."""

from __future__ import annotations

from typing import Any

#: Names that a warning lists.
_NAMES_MAX = 5


def warnings(app: Any, worker: Any) -> list[str]:
    """What of it is only left out, a sentence each."""
    found = []
    if worker.task_events:
        found.append("`worker_send_task_events` is set: no events are sent yet, so monitors see no task of this pool")
    limited = sorted(name for name, task in app.tasks.items() if task.rate_limit)
    if limited and not worker.disable_rate_limits:
        found.append(f"`rate_limit` is not kept yet ({_listed(limited)}): these tasks run as fast as they come")
    return found


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES_MAX} more" if len(names) > _NAMES_MAX else ""
    return ", ".join(names[:_NAMES_MAX]) + more
