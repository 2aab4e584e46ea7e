"""Loads the application: module path, imports, hooks."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Callable, Optional

from pool_template.jobs import errors
from pool_template.process.control import Load
from pool_template.rq.settings import RqSettings

if TYPE_CHECKING:
    from pool_template.rq.code import RqCode

Hook = Callable[[], Any]


class LoadError(Exception):
    """The application does not load; `detail` is the traceback, as far as it is the user's."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


@dataclass
class App:
    """An application that is loaded."""

    #: Functions to call in each worker, with their dotted names.
    after_fork: list[tuple[str, Hook]] = field(default_factory=list)
    #: RQ's code as the options name it; None under every other runtime.
    rq: Optional[RqCode] = None


def load(what: Load) -> App:
    """Imports the preload modules, finds all hooks, calls those of `before_fork`."""
    put_directory_first(os.getcwd())
    rq_settings = RqSettings.from_message(what.options) if what.dialect == "rq" else None
    if rq_settings is not None:
        # Ahead of the application, as in `rq worker`.
        _trying("cannot set up RQ", _load_rq)
        sys.path += rq_settings.path
        if rq_settings.config is not None:
            _trying(f"cannot use the settings of `{rq_settings.config}`", lambda: _use_config(rq_settings.config))
    for module in what.preload:
        _trying(f"cannot import `{module}`", lambda name=module: importlib.import_module(name))
    code = None if rq_settings is None else _trying("cannot set up RQ", lambda: _rq_code(rq_settings))
    before = [(name, _hook(name, "before_fork")) for name in what.before_fork]
    after = [(name, _hook(name, "after_fork")) for name in what.after_fork]
    for name, hook in before:
        _trying(f"the hook `{name}` (app.before_fork) failed", hook)
    if code is not None:
        code.is_stock = code.looks_stock()
    return App(after_fork=after, rq=code)


def freeze() -> None:
    """Moves everything that is loaded out of the garbage collector's sight, so that its passes in the workers
    write to none of the pages that they share."""
    gc.collect()
    gc.freeze()


def put_directory_first(directory: str) -> None:
    """Puts the application's directory in front of the module path, in place of the `''` of `python -c`."""
    sys.path[:] = [directory] + [entry for entry in sys.path if entry not in ("", directory)]


def import_if_there(name: str) -> Optional[ModuleType]:
    """Imports a module; None when there is no such module. What it raises itself passes."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(missing + "."):
            return None
        raise


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


def _load_rq() -> None:
    import pool_template.rq.runner  # noqa: F401 (under other runtimes there may be no `rq`; and here all workers share it)


def _rq_code(settings: RqSettings) -> RqCode:
    from pool_template.rq.code import RqCode

    return RqCode(settings)


def _hook(name: str, setting: str) -> Hook:
    """The function with this dotted name."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:cut])
        module = _trying(f"cannot import `{module_name}`", lambda: import_if_there(module_name))
        if module is None:
            continue
        found: Any = module
        for part in parts[cut:]:
            found = getattr(found, part, None)
        if not callable(found):
            raise LoadError(f"the hook `{name}` (app.{setting}) is not a function of `{module_name}`")
        return found
    raise LoadError(f"the hook `{name}` (app.{setting}) is in no module that can be imported")


def _trying(what: str, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except BaseException as error:  # SystemExit, too: a module that exits does not load
        detail = errors.traceback_of(error)
        message = f"{what}: {errors.type_name(error)}: {errors.message_of(error)}"
        if isinstance(error, ModuleNotFoundError):
            message += f" (the module path begins with {sys.path[0]})"
        raise LoadError(message, detail) from error
