"""Functions with JSON arguments as a dialect; see `dialects.Dialect`."""

from __future__ import annotations

from typing import Any, Callable

from pool_template.jobs.batch import marked
from pool_template.jobs.functions import JsonRunner
from pool_template.jobs.names import Names
from pool_template.process import signals
from pool_template.process.control import Load


class Dialect:
    """The pool's own."""

    signals_are_inherited = False
    signals_of_jobs: tuple[int, ...] = ()

    def __init__(self, load: Load) -> None:
        self._modules = load.modules or load.preload
        self._max_result = load.max_result

    def before_app(self, attempt: Any) -> None:
        """It needs nothing."""

    def after_app(self, attempt: Any) -> None:
        """It needs nothing."""

    def after_hooks(self) -> None:
        """It needs nothing."""

    def facts(self) -> str:
        """It has none to tell."""
        return ""

    def warnings(self) -> list[str]:
        """It has none."""
        return []

    def batches(self) -> dict[str, dict[str, int]]:
        """Those that `pool_job.batch` marked, by their dotted names."""
        return marked()

    def find_task(self, task: str) -> None:
        """See `dialects.Dialect`."""
        Names(self._modules).find(task)

    def runner(self) -> JsonRunner:
        """See `dialects.Dialect`."""
        return JsonRunner(self._modules, self._max_result)

    def begin(self) -> None:
        """It needs nothing."""

    def end(self) -> None:
        """It needs nothing."""

    def set_up_signals(self, on_terminate: Callable[..., Any]) -> None:
        """See `dialects.Dialect`."""
        signals.set_up_worker(on_terminate)
