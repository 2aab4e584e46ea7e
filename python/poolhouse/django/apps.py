"""The application of `INSTALLED_APPS`."""

from __future__ import annotations

from django.apps import AppConfig


class PoolhouseConfig(AppConfig):  # type: ignore[misc]
    """Has the command `manage.py pool`."""

    name = "poolhouse.django"
    label = "poolhouse"
    verbose_name = "Poolhouse"
