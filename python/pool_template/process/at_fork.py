"""What is left out at forks of the pool's own.

Some modules of the standard library reset their locks and threads in every process that was forked, in code that
touches many pages, each of which the kernel then copies. A process that is forked by one that has a single thread, and
holds no lock, has nothing to reset. Processes that jobs fork may have, and there nothing is left out.

It fails open: whatever is not exactly as known here runs as ever. `app.fast_forks = false` switches it off.
"""

from __future__ import annotations

import os
import sys
from types import BuiltinFunctionType
from typing import Any, Callable, Iterable, Optional

Hook = Callable[[], Any]

#: Modules of the standard library whose functions at a fork reset locks and threads, and do nothing else.
_LEFT_OUT = frozenset(("threading", "logging", "concurrent.futures.thread"))
_LIBRARY = os.path.dirname(os.__file__)
_register = os.register_at_fork

#: What these modules asked for, in their order.
_before: list[Hook] = []
_after_in_parent: list[Hook] = []
_after_in_child: list[Hook] = []
#: What a fork by a job does besides; see `lineage`. None: this process is no worker.
_job_hooks: Optional[tuple[Hook, Hook, Hook]] = None
#: Whether anything may be left out.
_is_allowed = True
#: One of the pool's own processes is being forked, and there is nothing to reset.
_leaves_out = False


def allow(is_allowed: bool) -> None:
    """Whether anything may be left out: `app.fast_forks`."""
    global _is_allowed
    _is_allowed = is_allowed


def fork_own() -> int:
    """As `os.fork`, for a process of the pool's own, by one that is no job."""
    global _leaves_out
    _leaves_out = _is_allowed and _is_plain()
    try:
        return os.fork()
    finally:
        _leaves_out = False


def _is_plain() -> bool:
    """This process has one thread of Python's, and nothing (such as gevent) put something else in place of the fork."""
    return type(os.fork) is BuiltinFunctionType and threading.active_count() == 1


def become_worker(job_hooks: Optional[tuple[Hook, Hook, Hook]]) -> None:
    """From now on forks are a job's: `job_hooks` run before them, after them here, and after them in the child."""
    global _job_hooks
    _job_hooks = job_hooks


def rehearse(rounds: int) -> None:
    """Does what is done at the fork of a worker, without one; see `rehearsal`."""
    global _leaves_out
    _leaves_out = _is_allowed and _is_plain()
    if _leaves_out:
        for _ in range(rounds):
            _run_before()
            _run_in_parent()
            _run_in_child()
    _leaves_out = False


def look_no_more() -> None:
    """Everything is loaded: of what is imported from now on nothing is left out."""
    if os.register_at_fork is _register_unless_left_out:
        os.register_at_fork = _register


def _register_unless_left_out(**hooks: Any) -> None:
    """Stands for `os.register_at_fork` while the application is loaded."""
    code = sys._getframe(1)
    is_known = (
        code.f_globals.get("__name__") in _LEFT_OUT
        and code.f_code.co_filename.startswith(_LIBRARY)
        and hooks.keys() <= {"before", "after_in_parent", "after_in_child"}
        and all(map(callable, hooks.values()))
    )
    if not is_known:
        _register(**hooks)
        return
    for when, known in (("before", _before), ("after_in_parent", _after_in_parent), ("after_in_child", _after_in_child)):
        if when in hooks:
            known.append(hooks[when])


def _run_before() -> None:
    if _leaves_out:
        return
    if _job_hooks is not None:
        _job_hooks[0]()
    _run(reversed(_before))


def _run_in_parent() -> None:
    if _leaves_out:
        return
    _run(_after_in_parent)
    if _job_hooks is not None:
        _job_hooks[1]()


def _run_in_child() -> None:
    if _leaves_out:
        # The kernel's number of the thread is the one thing that did change.
        _main_thread._native_id = _native_id()  # type: ignore[attr-defined]
        return
    _run(_after_in_child)
    if _job_hooks is not None:
        _job_hooks[2]()


def _run(hooks: Iterable[Hook]) -> None:
    for hook in hooks:
        try:
            hook()
        except Exception:  # the others have their turn all the same, as without us
            sys.excepthook(*sys.exc_info())


_register(before=_run_before, after_in_parent=_run_in_parent, after_in_child=_run_in_child)
os.register_at_fork = _register_unless_left_out
# Imported here, before anything else imports it: of a module that something had imported before (a `.pth` file)
# nothing is left out.
import threading  # noqa: E402
from _thread import get_native_id as _native_id  # noqa: E402

_main_thread = threading.main_thread()
