"""What the options of `rq worker` say, as the `load` message carries it in `options`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Optional


@dataclass
class Sentinel:
    """Where Redis is found by Sentinel."""

    hosts: list[tuple[str, int]]
    service: str
    #: Keyword arguments of the connections to the Sentinels themselves.
    connection: dict[str, str] = field(default_factory=dict)


@dataclass
class RqSettings:
    """The supervisor's side is `Options` in `src/runtime/rq.rs`; None leaves a value to RQ's default."""

    url: str = "redis://localhost:6379/0"
    connection: dict[str, str] = field(default_factory=dict)
    sentinel: Optional[Sentinel] = None
    #: A worker's name; `{}` stands for its ordinal.
    worker_name: str = "{}"
    #: The queues of each pool.
    queues: dict[str, list[str]] = field(default_factory=dict)
    serializer: Optional[str] = None
    job_class: Optional[str] = None
    queue_class: Optional[str] = None
    #: What the keys of the job class begin with; None: as RQ's do.
    job_key_prefix: Optional[str] = None
    queue_key_prefix: Optional[str] = None
    worker_class: Optional[str] = None
    exception_handlers: list[str] = field(default_factory=list)
    disable_default_exception_handler: bool = False
    results_ttl: Optional[int] = None
    worker_ttl: Optional[int] = None
    job_monitoring_interval: Optional[int] = None
    disable_job_desc_logging: bool = False
    path: list[str] = field(default_factory=list)
    #: Module of RQ's settings, of which `DICT_CONFIG` holds here.
    config: Optional[str] = None
    #: Module or file of cron jobs, as `rq cron` takes it.
    cron: Optional[str] = None
    #: Tasks whose batches run again in halves when they fail as a whole.
    batch_split: list[str] = field(default_factory=list)

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> RqSettings:
        """Takes the fields known here out of the message."""
        known = {each.name for each in fields(cls)}
        settings = cls(**{name: value for name, value in message.items() if name in known})
        if isinstance(settings.sentinel, dict):
            sentinel = settings.sentinel
            hosts = [(str(host), int(port)) for host, port in sentinel["hosts"]]
            settings.sentinel = Sentinel(hosts, sentinel["service"], sentinel.get("connection") or {})
        return settings
