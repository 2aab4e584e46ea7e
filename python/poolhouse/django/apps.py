"""The application of `INSTALLED_APPS`."""

from __future__ import annotations

import importlib

from django.apps import AppConfig


class PoolhouseConfig(AppConfig):  # type: ignore[misc]
    """Has the command `manage.py pool`, and sees to it that Django's system checks ask the backends."""

    name = "poolhouse.django"
    label = "poolhouse"
    verbose_name = "Poolhouse"

    def ready(self) -> None:
        """Django registers its check with the module of tasks: without this, not before somebody imports a task."""
        importlib.import_module("poolhouse.django.tasks")
