"""Django's tasks on a pool: `TASKS = {"default": {"BACKEND": "poolhouse.django.PoolBackend"}}`.

With `"poolhouse.django"` in `INSTALLED_APPS`, `manage.py pool` starts the workers. docs/django.md is for users.

- `backend`: enqueues tasks, and tells what became of them; `results`: how a job is a task result;
- `running`: a task in a worker; `worker`: what workers preload; `tasks`: Django's own module, or its backport.
"""

from __future__ import annotations

from typing import Any

__all__ = ["PoolBackend"]


def __getattr__(name: str) -> Any:
    """The backend, once it is asked for: the application imports this package before its models can be."""
    if name == "PoolBackend":
        from poolhouse.django.backend import PoolBackend

        return PoolBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
