"""Loads the application: module path, imports, hooks."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from typing import Any, Callable

from pool_template import dialects
from pool_template.dialects import Dialect
from pool_template.jobs import errors
from pool_template.jobs.names import UnknownTask, import_if_there
from pool_template.process.control import Load
from pool_template.process.packages import PackageMissing

Hook = Callable[[], Any]


class LoadError(Exception):
    """The application does not load; `detail` is the traceback, as far as it is the user's."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


@dataclass
class App:
    """An application that is loaded."""

    dialect: Dialect
    #: Functions to call in each worker, with their dotted names.
    after_fork: list[tuple[str, Hook]]


def load(what: Load) -> App:
    """Imports the preload modules, finds all hooks, calls those of `before_fork`."""
    put_directory_first(os.getcwd())
    dialect = dialects.find(what)
    dialect.before_app(_trying)
    for module in what.preload:
        _trying(f"cannot import `{module}`", lambda name=module: importlib.import_module(name))
    dialect.after_app(_trying)
    before = [(name, _hook(name, "before_fork")) for name in what.before_fork]
    after = [(name, _hook(name, "after_fork")) for name in what.after_fork]
    for name, hook in before:
        _trying(f"the hook `{name}` (app.before_fork) failed", hook)
    dialect.after_hooks()
    for module in what.modules if what.import_modules else []:
        name = module[:-2] if module.endswith(".*") else module
        _trying(f"cannot import `{name}` (app.modules)", lambda name=name: importlib.import_module(name))
    return App(dialect, after)


def unknown_tasks(app: App, tasks: list[str]) -> dict[str, str]:
    """Those of these tasks that no job can run, each with the reason."""
    unknown = {}
    for task in tasks:
        try:
            app.dialect.find_task(task)
        except UnknownTask as error:
            unknown[task] = str(error)
        except BaseException as error:  # SystemExit, too: its module may exit
            unknown[task] = f"{errors.type_name(error)}: {errors.message_of(error)}"
    return unknown


def put_directory_first(directory: str) -> None:
    """Puts the application's directory in front of the module path, in place of the `''` of `python -c`."""
    sys.path[:] = [directory] + [entry for entry in sys.path if entry not in ("", directory)]


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
    except PackageMissing as error:
        raise LoadError(f"{what}: {error}") from None
    except BaseException as error:  # SystemExit, too: a module that exits does not load
        detail = errors.traceback_of(error)
        message = f"{what}: {errors.type_name(error)}: {errors.message_of(error)}"
        if isinstance(error, ModuleNotFoundError):
            message += f" (the module path begins with {sys.path[0]})"
        raise LoadError(message, detail) from error
