"""What is done at forks, so that those of a pool are cheap.

Some modules of the standard library reset their locks, threads and seeds in every process that was forked, in code
that touches some 200 pages, each of which the kernel then copies: a third of what a worker costs. A worker has
nothing to reset, since the process that forks it has one thread and holds no lock; only its random numbers are sown
anew, in a shorter way. The processes that its jobs fork may have, and there all is as ever.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Callable, Optional

Hook = Callable[[], Any]

#: What these ask for at a fork is well known, and not needed in a worker.
_SPARED = frozenset(("threading", "logging", "random", "concurrent.futures.thread"))
_register = os.register_at_fork
#: As many as glibc keeps at hand of one size, and how many fill the gaps.
_LOCKS_AT_HAND, _LOCKS = 7, 200
_locks: list[Any] = []
#: Bytes of a request that is large to glibc, and not so large that it asks the kernel.
_LARGE = 100_000

#: What the modules above asked for, in their order.
_before: list[Hook] = []
_after_in_parent: list[Hook] = []
_after_in_child: list[Hook] = []
#: The generators of random numbers behind the functions of `random`.
_generators: list[Any] = []
_seed: Callable[[Any, int], Any]
#: What a fork by a job does besides; see `lineage`. None: this process is no worker.
_job_hooks: Optional[tuple[Hook, Hook, Hook]] = None
#: A worker is being forked, and there is nothing to reset.
_is_sparing = False


def fork_alone() -> int:
    """As `os.fork`, in a process of the pool's own that has one thread and is no job."""
    global _is_sparing
    _is_sparing = True
    try:
        return os.fork()
    finally:
        _is_sparing = False


def fork_worker() -> int:
    """As `os.fork`, for the template, which may have threads of the application's."""
    return fork_alone() if threading.active_count() == 1 else os.fork()


def tidy_heap() -> None:
    """Has the C library sort what was freed, which it does at a large request, writing all over the heap; and fills the
    gaps that the locks would be put into which Python makes anew in each process that was forked. Called in the
    template, before the heap is put into huge pages."""
    _locks.extend(threading.Lock() for _ in range(_LOCKS))
    bytearray(_LARGE)


def make_room() -> None:
    """Leaves room at hand for those locks, side by side. Called ahead of many forks."""
    bytearray(_LARGE)
    del _locks[-_LOCKS_AT_HAND:]


def become_worker(job_hooks: Optional[tuple[Hook, Hook, Hook]]) -> None:
    """From now on forks are a job's: `job_hooks` run before them, after them here, and after them in the child."""
    global _job_hooks
    _job_hooks = job_hooks


def rehearse(rounds: int) -> None:
    """Does what is done at the fork of a worker, without one; see `rehearsal`."""
    global _is_sparing
    _is_sparing = True
    for _ in range(rounds):
        _run_before()
        _run_in_parent()
        _run_in_child()
    _is_sparing = False


def look_no_more() -> None:
    """Everything is loaded: what is imported from now on is not spared, and as right as ever."""
    if os.register_at_fork is _register_unless_spared:
        os.register_at_fork = _register


def _register_unless_spared(
    *, before: Optional[Hook] = None, after_in_child: Optional[Hook] = None, after_in_parent: Optional[Hook] = None
) -> None:
    """Stands for `os.register_at_fork` while the application is loaded."""
    hooks = {"before": before, "after_in_parent": after_in_parent, "after_in_child": after_in_child}
    module = sys._getframe(1).f_globals.get("__name__")
    if module not in _SPARED:
        _register(**{when: hook for when, hook in hooks.items() if hook is not None})
        return
    for hook, known in ((before, _before), (after_in_parent, _after_in_parent), (after_in_child, _after_in_child)):
        if hook is not None:
            known.append(hook)
    if module == "random":
        global _seed
        from _random import Random

        _seed = Random.seed
        _generators.append(after_in_child.__self__)  # type: ignore[union-attr]


def _run_before() -> None:
    if _is_sparing:
        return
    if _job_hooks is not None:
        _job_hooks[0]()
    for hook in reversed(_before):
        hook()


def _run_in_parent() -> None:
    if _is_sparing:
        return
    for hook in _after_in_parent:
        hook()
    if _job_hooks is not None:
        _job_hooks[1]()


def _run_in_child() -> None:
    if _is_sparing:
        for generator in _generators:
            _seed(generator, int.from_bytes(os.urandom(16), "little"))
            generator.gauss_next = None
        # The kernel's number of the thread is the one thing that did change.
        _main_thread._native_id = _native_id()  # type: ignore[attr-defined]
        return
    for hook in _after_in_child:
        hook()
    if _job_hooks is not None:
        _job_hooks[2]()


_register(before=_run_before, after_in_parent=_run_in_parent, after_in_child=_run_in_child)
os.register_at_fork = _register_unless_spared
# Imported here, before anything else imports it: a module that something had imported before (a `.pth` file) is not
# spared, and as right as ever.
import threading  # noqa: E402
from _thread import get_native_id as _native_id  # noqa: E402

_main_thread = threading.main_thread()
