"""Which functions a job may name.

A task is the dotted name of a function: `module.function`, or `module.Class.method` for a static or class method.
Its module must be one that the configuration lists: exactly (`shop.tasks`), or by a package and all below
it (`shop.*`). And the function must be defined there, or below the listed package: what a module merely
imports (`from subprocess import run`) is no task. Names with a leading underscore are private.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from types import MethodType, ModuleType
from typing import Any, Callable, NamedTuple, Optional


class UnknownTask(Exception):
    """There is no such task, and another run would not find it either."""


def import_if_there(name: str) -> Optional[ModuleType]:
    """Imports a module; None when there is no such module. What it raises itself passes."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(missing + "."):
            return None
        raise


class Found(NamedTuple):
    """A function, and where it was found."""

    module: str
    #: The names that lead from the module to it.
    path: list[str]
    #: What they lead to: the function, or an object that stands for it.
    holder: Any
    function: Callable[..., Any]

    def is_still_there(self) -> bool:
        """Whether the same names still lead to it."""
        holder: Any = sys.modules.get(self.module)
        for part in self.path:
            holder = getattr(holder, part, None)
        # A class method is a new object each time.
        return holder is self.holder or (type(holder) is MethodType and holder == self.holder)


def function_of(holder: Any) -> Any:
    """The function for which an object stands. A class of such objects has the method `__pool_task__`, which returns it:
    what decorators of clients make of functions. Calling the function itself adds no frame to a traceback."""
    stands_for = getattr(type(holder), "__pool_task__", None)
    return holder if stands_for is None else stands_for(holder)


class Names:
    """The modules whose functions jobs may name."""

    def __init__(self, modules: list[str]) -> None:
        self._exact = {name for name in modules if not name.endswith(".*")}
        self._packages = tuple(name[:-1] for name in modules if name.endswith(".*"))

    def find(self, task: str) -> Found:
        """The function that a task names; imports its module if need be, and what that raises passes."""
        parts = task.split(".")
        if not all(part.isidentifier() for part in parts):
            raise UnknownTask(f"`{task}` is not the dotted name of a function")
        listed = False
        for cut in range(len(parts) - 1, 0, -1):
            name = ".".join(parts[:cut])
            if not self._may_name(name):
                continue
            listed = True
            module = import_if_there(name)
            if module is not None:
                holder = self._attribute(task, module, parts[cut:])
                return Found(name, parts[cut:], holder, self._function(task, module, holder))
        if listed:
            raise UnknownTask(f"there is no module for `{task}`")
        raise UnknownTask(f"`{task}` is in no module that jobs may name ({self}; set `app.modules`)")

    def __str__(self) -> str:
        names = sorted(self._exact) + [f"{package}*" for package in self._packages]
        return "they are: " + ", ".join(f"`{name}`" for name in names) if names else "there are none"

    def _may_name(self, module: str) -> bool:
        if module in self._exact:
            return True
        for package in self._packages:
            if (module + ".").startswith(package):
                return not any(part.startswith("_") for part in module[len(package) :].split("."))
        return False

    def _is_home(self, module: str) -> bool:
        """Whether functions defined in this module are the application's own."""
        return self._may_name(module) or any(module.startswith(name + ".") for name in self._exact)

    def _attribute(self, task: str, module: ModuleType, path: list[str]) -> Any:
        holder: Any = module
        for depth, part in enumerate(path):
            if part.startswith("_"):
                raise UnknownTask(f"`{part}` in `{task}` is private: jobs can't name it")
            if depth and not inspect.isclass(holder):
                raise UnknownTask(f"`{'.'.join(path[:depth])}` in `{task}` is not a class")
            if not hasattr(holder, part):
                raise UnknownTask(f"`{module.__name__}` has no `{'.'.join(path[: depth + 1])}`")
            static = inspect.getattr_static(holder, part, None)
            if depth and inspect.isfunction(static):
                raise UnknownTask(f"`{task}` needs an instance; only static and class methods can be tasks")
            holder = getattr(holder, part)
        return holder

    def _function(self, task: str, module: ModuleType, holder: Any) -> Callable[..., Any]:
        function = function_of(holder)
        if inspect.isclass(function) or not callable(function):
            raise UnknownTask(f"`{task}` is not a function")
        home = getattr(function, "__module__", None)
        if not isinstance(home, str) or not self._is_home(home):
            raise UnknownTask(
                f"`{task}` is defined in `{home}`, whose functions jobs may not name; wrap it in a function of "
                f"`{module.__name__}`, or list its module in `app.modules`"
            )
        return function
