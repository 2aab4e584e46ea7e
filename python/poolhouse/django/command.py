"""The command line of the program that runs a project's tasks."""

from __future__ import annotations

from typing import Iterable, List, Optional, Sequence

from poolhouse.brokers import runtime_of

_WORKER = "poolhouse.django.worker"


def command_of(
    python: str, directory: str, broker_url: Optional[str], apps: Iterable[str], flags: Sequence[str]
) -> List[str]:
    """Arguments of `pool` for the workers of this project. `apps`: the packages of which jobs may name tasks.

    `flags` are somebody's own. The program takes some of them once: then they hold in place of those of the project.
    """
    runtime, more = runtime_of(broker_url)
    command = ["run"]
    for flag, value in (("--runtime", runtime), ("--python", python), ("--directory", directory)):
        if not any(given == flag or given.startswith(f"{flag}=") for given in flags):
            command += [flag, value]
    command += [*more, "--preload", _WORKER, "--before-fork", f"{_WORKER}.close_connections"]
    if runtime == "python":
        for app in apps:
            command += ["--module", f"{app}.*"]
    return [*command, *flags]


def queue_flags(queues: Iterable[str]) -> List[str]:
    """Flags that name the queues of a backend."""
    return [word for queue in sorted(queues) for word in ("--queue", queue)]
