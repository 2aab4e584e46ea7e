"""RQ's jobs as a dialect; see `dialects.Dialect`. RQ itself is imported when the application is loaded, not before."""

from __future__ import annotations

import importlib
import json
import sys
from typing import TYPE_CHECKING, Any, Callable

from pool_template.jobs.batch import marked
from pool_template.process import packages, signals
from pool_template.process.control import Load
from pool_template.rq.settings import RqSettings

if TYPE_CHECKING:
    from pool_template.rq.code import RqCode
    from pool_template.rq.runner import RqRunner


class Dialect:
    """RQ's."""

    signals_are_inherited = True
    signals_of_jobs: tuple[int, ...] = ()

    def __init__(self, load: Load) -> None:
        self._settings = RqSettings.from_message(load.options)
        self._max_result = load.max_result
        self._code: RqCode
        self._cron: Any = None

    def before_app(self, attempt: Any) -> None:
        """As in `rq worker`, RQ and its settings come ahead of the application."""
        attempt("cannot set up RQ", lambda: packages.set_up("rq", "pool_template.rq.runner"))
        sys.path += self._settings.path
        config = self._settings.config
        if config is not None:
            attempt(f"cannot use the settings of `{config}`", lambda: _use_config(config))

    def after_app(self, attempt: Any) -> None:
        """The options may name classes of the application, and cron jobs its functions."""
        from pool_template.rq.code import RqCode
        from pool_template.rq.raised import join_timeouts

        join_timeouts()
        self._code = attempt("cannot set up RQ", lambda: RqCode(self._settings))
        module = self._settings.cron
        if module is not None:
            from pool_template.rq import cron

            self._cron = attempt(
                f"cannot use the cron jobs of `{module}`", lambda: cron.facts(module, self._code)
            )

    def after_hooks(self) -> None:
        """They may have patched RQ."""
        self._code.look()

    def facts(self) -> str:
        """The versions that RQ's tools are shown of each worker, and its cron jobs. Source: `rq/worker/base.py`, `serialize`."""
        import rq

        return json.dumps({"versions": [rq.VERSION, sys.version], "cron": self._cron})

    def warnings(self) -> list[str]:
        """It has none."""
        return []

    def batches(self) -> dict[str, dict[str, int]]:
        """Those that `pool_job.batch` marked, by their dotted names."""
        return marked()

    def find_task(self, task: str) -> None:
        """See `dialects.Dialect`."""
        from rq.utils import import_attribute

        import_attribute(task)

    def runner(self) -> RqRunner:
        """See `dialects.Dialect`."""
        from pool_template.rq.runner import RqRunner

        return RqRunner(self._code, self._max_result)

    def begin(self) -> None:
        """It needs nothing."""

    def end(self) -> None:
        """It needs nothing."""

    def set_up_signals(self, on_terminate: Callable[..., Any]) -> None:
        """As RQ's work horse has them: SIGTERM ends the job."""
        signals.set_up_plain_worker()


def _use_config(name: str) -> None:
    """Does with a settings module what `rq worker --config` does, as far as the supervisor has not done it."""
    module = importlib.import_module(name)
    if getattr(module, "DICT_CONFIG", None):
        import logging.config  # other applications need not pay for it

        logging.config.dictConfig(module.DICT_CONFIG)
    if getattr(module, "SENTRY_DSN", None):
        # RQ 3 has no word for it any more; it must not look as if errors were reported.
        print(
            f"pool: SENTRY_DSN of {name} is not used: call sentry_sdk.init() in a module that is preloaded",
            file=sys.stderr,
        )
