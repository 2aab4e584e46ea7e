"""Django's tasks, or their backport for Django before 6.0: the package `django-tasks`."""

from __future__ import annotations

import importlib
from typing import Any


def _package() -> str:
    for name in ("django.tasks", "django_tasks"):
        try:
            importlib.import_module(name)
            return name
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
    raise ModuleNotFoundError("this Django has no tasks: it needs Django 6.0, or `pip install django-tasks`")


def _part(name: str) -> Any:
    return importlib.import_module(f"{_PACKAGE}.{name}")


_PACKAGE = _package()
_base, _exceptions, signals = _part("base"), _part("exceptions"), _part("signals")

#: The backends of the settings, by their aliases.
task_backends: Any = importlib.import_module(_PACKAGE).task_backends
Task: Any = _base.Task
TaskContext: Any = _base.TaskContext
TaskError: Any = _base.TaskError
TaskResult: Any = _base.TaskResult
TaskResultStatus: Any = _base.TaskResultStatus
TaskResultDoesNotExist: Any = _exceptions.TaskResultDoesNotExist
BaseTaskBackend: Any = _part("backends.base").BaseTaskBackend
normalize_json: Any = (
    importlib.import_module("django.utils.json" if _PACKAGE == "django.tasks" else "django_tasks.utils").normalize_json
)
_part("checks")  # registers the one that asks each backend; django-tasks has it only in an application of its own
