"""Runs jobs that do nothing in the template, before the first fork.

Python specialises code when it has run a few times, the dynamic linker looks a function up when it is first called,
and caches fill. Done here, it is done once and shared; else each worker would do it again, or each job of an
application with `isolation = "fresh"`, on pages that are copied for it.
"""

from __future__ import annotations

import socket
import sys

from pool_template import worker
from pool_template.jobs import frames, lineage
from pool_template.process import at_fork
from pool_template.process.signals import quick
from pool_template.process.title import IDLE

#: How often each thing is done. CPython 3.11 to 3.13 specialise code after fewer.
ROUNDS = 20
#: Their deadline: far away.
_TIMEOUT_MS = 3_600_000


def rehearse(setup: worker.Setup) -> None:
    """Leaves no trace but warm code."""
    setup.title.set("pool-template", "pool: template (rehearses)", IDLE)
    # What Python remembers of attributes that the application looked up while it was loaded has a reference to each
    # name. An entry that gives way to another would be a write to the name, somewhere in the heap.
    # (The first is its name since 3.13, where the other one is deprecated.)
    forget = getattr(sys, "_clear_internal_caches", None) or getattr(sys, "_clear_type_cache", None)
    if forget is not None:
        forget()
    # An application that waits for an alarm keeps its own.
    is_free = quick.getsignal(quick.SIGALRM) == quick.SIG_DFL
    timeout_ms = _TIMEOUT_MS if is_free else 0
    for _ in range(ROUNDS):
        setup.runner.rehearse(lambda task, payload: _play(setup, frames.run_frame(task, payload, timeout_ms)))
    # One without a deadline stops the timer.
    setup.runner.rehearse(lambda task, payload: _play(setup, frames.run_frame(task, payload, 0)))
    if is_free:
        quick.signal(quick.SIGALRM, quick.SIG_DFL)
    at_fork.rehearse(ROUNDS)
    for _ in range(ROUNDS):
        lineage.watch()
        worker.has_exit_functions()
    lineage.watch_no_more()


def _play(setup: worker.Setup, packet: bytes) -> None:
    """Has the job loop serve a supervisor that sends this and hangs up."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.send(packet)
        ours.shutdown(socket.SHUT_WR)
        setup.loop.attach(socket.SocketType(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, theirs.detach()))
        setup.loop.serve()
