"""Ties the life of a process group to that of another process, by a pipe: see ARCHITECTURE.md.

The other process alone has the write end. When it dies, however it dies, the kernel closes that, and sends SIGKILL to
the group that owns the read end.
"""

from __future__ import annotations

import fcntl
import os
import signal

#: `fcntl` command: the signal that announces input. Source: Linux, include/uapi/asm-generic/fcntl.h.
_F_SETSIG = 10


def arm(lifeline: int) -> None:
    """Has the kernel send the signal, once somebody owns this read end."""
    fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def own(lifeline: int) -> None:
    """Makes it the lifeline of the group that this process leads. If it has hung up already, no signal comes."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpid())
