"""What workers of a Django project preload: the project with its settings, and the modules with its tasks."""

from __future__ import annotations

import django
from django.apps import apps
from django.db import connections
from django.utils.module_loading import autodiscover_modules

if not apps.ready:
    django.setup()
autodiscover_modules("tasks")


def close_connections() -> None:
    """A hook ahead of the first fork: workers must not share what the preload opened."""
    connections.close_all()
