"""Spares workers what `threading` and `logging` do in every process that was forked.

Both go through their locks and threads to reset them, in code that touches some 200 pages, each of which the kernel
then copies: a third of what a worker costs. A worker has nothing to reset, since its template has one thread and
holds no lock when it forks. The processes that its jobs fork may have, and there all is as ever.
"""

from __future__ import annotations

import os
from typing import Any, Callable, Optional

Hook = Callable[[], Any]

#: A worker is being forked, and there is nothing to reset.
_is_sparing = False


def _import_both() -> Any:
    """Imports the two modules; what they ask for at a fork, they get unless a worker is spared it."""
    register = os.register_at_fork

    def register_spared(**hooks: Hook) -> None:
        register(**{when: _unless_spared(hook) for when, hook in hooks.items()})

    os.register_at_fork = register_spared  # type: ignore[assignment]
    try:
        import logging  # noqa: F401
        import threading
    finally:
        os.register_at_fork = register
    return threading


def _unless_spared(hook: Hook) -> Hook:
    def run() -> None:
        if not _is_sparing:
            hook()

    return run


#: Imported here, before anything else imports it: a module that something had imported before (a `.pth` file) is
#: not spared, and as right as ever.
threading = _import_both()


def fork_worker() -> int:
    """As `os.fork`, for the template."""
    global _is_sparing
    _is_sparing = threading.active_count() == 1
    try:
        pid = os.fork()
    finally:
        spared, _is_sparing = _is_sparing, False
    if pid == 0 and spared:
        _renumber(threading.main_thread())
    return pid


def _renumber(thread: Any) -> None:
    """The kernel's number of the thread is the one thing that did change."""
    set_number: Optional[Hook] = getattr(thread, "_set_native_id", None)
    if set_number is not None:
        set_number()
