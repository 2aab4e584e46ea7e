"""The dialects in which jobs are written. Each has a package here, found by the name in the `load` message."""

from __future__ import annotations

import importlib
from typing import Any, Callable, Protocol

from pool_template.jobs.loop import Runner
from pool_template.process.control import Load

#: Where functions with JSON arguments are run: what a `load` message without a dialect means.
_OWN = "jobs"

#: Does something for the application to load; the text says what can't be done if it raises.
Attempt = Callable[[str, Callable[[], Any]], Any]


class Dialect(Protocol):
    """What the template and its workers ask of a dialect: a class `Dialect` of a `Load` in its module `dialect`."""

    #: Whether a process that a worker forks for a job keeps the worker's answers to signals.
    signals_are_inherited: bool
    #: Signals that are for the job: a worker with a process for each job passes them on.
    signals_of_jobs: tuple[int, ...]

    def before_app(self, attempt: Attempt) -> None:
        """Called once, ahead of the application's modules."""
        ...

    def after_app(self, attempt: Attempt) -> None:
        """Called once, when the application's modules are imported."""
        ...

    def after_hooks(self) -> None:
        """Called when hooks have run, in the template and in each worker that has any."""
        ...

    def facts(self) -> str:
        """What the supervisor's broker must know of the application, called once all is loaded; empty: nothing. It is
        handed on as it is."""
        ...

    def warnings(self) -> list[str]:
        """Sentences on what of the application can't run here."""
        ...

    def batches(self) -> dict[str, dict[str, int]]:
        """The application's batch tasks by name, each with `size` and `linger_ms`; called once all is loaded."""
        ...

    def find_task(self, task: str) -> None:
        """Looks for a task as its first job would; raises what that job would meet."""
        ...

    def runner(self) -> Runner:
        """What runs the jobs; made once, in the template."""
        ...

    def begin(self) -> None:
        """Called in each process that runs jobs, ahead of its first one."""
        ...

    def end(self) -> None:
        """Called in such a process when it leaves."""
        ...

    def set_up_signals(self, on_terminate: Callable[..., Any]) -> None:
        """Who answers which signal in a worker; `on_terminate` lets it leave with its running job."""
        ...


def find(load: Load) -> Dialect:
    """The dialect that this message names."""
    module = importlib.import_module(f"pool_template.{load.dialect or _OWN}.dialect")
    return module.Dialect(load)
