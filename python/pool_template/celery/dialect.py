"""Celery's tasks as a dialect; see `dialects.Dialect`. Celery itself is imported when the application is loaded."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, Callable

from pool_template.celery.settings import CelerySettings
from pool_template.process import packages, signals
from pool_template.process.control import Load

if TYPE_CHECKING:
    from pool_template.celery.application import Application
    from pool_template.celery.runner import CeleryRunner


class Dialect:
    """Celery's."""

    signals_are_inherited = False
    signals_of_jobs: tuple[int, ...] = (signal.SIGUSR1,)

    def __init__(self, load: Load) -> None:
        self._settings = CelerySettings.from_message(load.options)
        self._max_result = load.max_result
        self._application: Application
        self._runner: CeleryRunner

    def before_app(self, attempt: Any) -> None:
        """As in `celery`, the global options come ahead of the application."""
        attempt("cannot set up Celery", lambda: packages.set_up("celery", "pool_template.celery.runner"))
        from pool_template.celery import application

        application.prepare(self._settings)

    def after_app(self, attempt: Any) -> None:
        """Finds the app and makes its worker object."""
        from pool_template.celery.application import Application
        from pool_template.celery.runner import CeleryRunner

        name = self._settings.app
        self._application = attempt(f"cannot load the Celery application `{name}`", lambda: Application(self._settings))
        attempt("cannot use the application's result backend", lambda: self._application.app.backend)
        self._runner = attempt("cannot set up Celery", lambda: CeleryRunner(self._application, self._max_result))

    def after_hooks(self) -> None:
        """It needs nothing."""

    def facts(self) -> str:
        """What the broker must know of the application."""
        from pool_template.celery import facts

        return facts.collect(self._application, self._runner.capture)

    def warnings(self) -> list[str]:
        """See `dialects.Dialect`."""
        return self._application.warnings()

    def batches(self) -> dict[str, dict[str, int]]:
        """See `dialects.Dialect`."""
        from pool_template.celery import batches

        return batches.rules_of(self._application.app.tasks)

    def find_task(self, task: str) -> None:
        """Nobody asks: Celery's own scheduler makes its tasks."""

    def runner(self) -> CeleryRunner:
        """See `dialects.Dialect`."""
        return self._runner

    def begin(self) -> None:
        """See `dialects.Dialect`."""
        from pool_template.celery import process

        process.begin(self._application)

    def end(self) -> None:
        """See `dialects.Dialect`."""
        from pool_template.celery import process

        process.end(self._application)

    def set_up_signals(self, on_terminate: Callable[..., Any]) -> None:
        """SIGTERM lets a task end, as it does everywhere in the pool."""
        from pool_template.celery import process

        signals.set_up_worker(on_terminate)
        process.set_up_signals(self._runner.soft_limit)
