"""What the options of `celery worker` say, as the `load` message carries it in `options`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Optional


@dataclass
class CelerySettings:
    """None leaves a value to Celery's default. Options that are the supervisor's own are not here."""

    #: As `celery -A`: a module, or one with an attribute.
    app: str = ""
    config: Optional[str] = None
    loader: Optional[str] = None
    broker: Optional[str] = None
    result_backend: Optional[str] = None
    workdir: Optional[str] = None
    include: list[str] = field(default_factory=list)
    #: Name of the node; `%h`, `%n` and `%d` stand for the host, its first part and its domain.
    hostname: Optional[str] = None
    #: Names with commas between.
    queues: Optional[str] = None
    exclude_queues: Optional[str] = None
    concurrency: Optional[int] = None
    loglevel: Optional[str] = None
    logfile: Optional[str] = None
    task_events: Optional[bool] = None
    #: Seconds.
    time_limit: Optional[float] = None
    soft_time_limit: Optional[float] = None
    optimization: Optional[str] = None
    prefetch_multiplier: Optional[int] = None
    without_gossip: bool = False
    without_mingle: bool = False
    without_heartbeat: bool = False
    heartbeat_interval: Optional[float] = None
    #: File of what was revoked.
    state_db: Optional[str] = None
    #: Batch tasks whose failed calls run again in halves.
    batch_split: list[str] = field(default_factory=list)

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> CelerySettings:
        """Takes the fields known here out of the message."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in message.items() if name in known})
