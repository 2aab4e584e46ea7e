"""What the client raises."""

from __future__ import annotations

__all__ = [
    "BrokerError",
    "BrokerUnreachable",
    "IdTaken",
    "JobCanceled",
    "JobFailed",
    "JobUnknown",
    "PoolhouseError",
    "Refused",
]


class PoolhouseError(Exception):
    """All errors of this package."""


class BrokerError(PoolhouseError):
    """The broker can't be reached, refuses for now, or holds what can't be read. The text says which, and what to do."""


class BrokerUnreachable(BrokerError):
    """Nobody answers at the broker. That may change."""


class Refused(PoolhouseError, ValueError):
    """This job can't be kept: a name, its arguments or an option are not possible. Nothing was enqueued."""


class IdTaken(Refused):
    """Another job or group has this id. Nothing was enqueued."""

    def __init__(self, id: str, what: str = "job") -> None:
        super().__init__(f"there is a {what} with the id `{id}` already")
        #: The id.
        self.id = id


class JobUnknown(PoolhouseError, LookupError):
    """There is no such job, or its result has expired, or it kept none."""

    def __init__(self, id: str) -> None:
        super().__init__(f"job `{id}` is unknown: it never was, it kept no result, or its result has expired")
        #: The job's id.
        self.id = id


class JobFailed(PoolhouseError):
    """The job failed for good. It is kept as a dead letter: `pool dead show ID`."""

    def __init__(self, id: str, kind: str, message: str, detail: str = "") -> None:
        what = f"{kind}: {message}" if message else kind
        super().__init__(f"job `{id}` failed: {what}" + (f"\n\n{detail.rstrip()}" if detail else ""))
        #: The job's id.
        self.id = id
        #: An exception's type (`ValueError`, `shop.errors.OutOfStock`), or `timeout`, `worker lost`, `unknown task` …
        self.kind = kind
        #: What the exception said.
        self.message = message
        #: The traceback, as far as it is the application's; may be empty.
        self.detail = detail

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return type(self), (self.id, self.kind, self.message, self.detail)


class JobCanceled(JobFailed):
    """The job was canceled before it began, or stopped while it ran."""
