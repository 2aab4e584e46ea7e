"""A process for each job: `app.isolation = "fresh"`.

The worker itself runs no job. It forks a child that waits for one, runs it, answers and ends; then it forks the next.
So a job finds a process that is there already, and what a worker sets up is set up once, not once a job.

To the supervisor the two are one worker. The child has the worker's job socket and process group, so that it is
stopped, killed and taken back from as a worker is; and when it dies with a job, the worker dies in the same way.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import signal
import time
from typing import Any, Callable, NoReturn, Optional

from pool_template.process import at_fork
from pool_template.process.signals import quick

try:
    import ctypes
except ImportError:  # an interpreter built without libffi
    ctypes = None  # type: ignore[assignment]

#: How far a child came.
WAITING, TOOK_JOB, ANSWERED, LEFT = range(4)
#: What a child shares with its worker: how far it came, whether it learned of another ordinal, and which.
_POINT, _MOVED, _ORDINAL = 0, 1, slice(2, 4)

#: Source: Linux, include/uapi/linux/prctl.h.
_PR_SET_CHILD_SUBREAPER = 36
_TERMINATION = (signal.SIGTERM,)
#: The numbers of a thread's children, and of the orphans that it adopted. Source: `proc_tid_children(5)`.
_CHILDREN = "/proc/thread-self/children"


class Turn:
    """What a child knows of its one job."""

    def __init__(self, progress: mmap.mmap) -> None:
        #: 1 for a worker's first child.
        self.number = 0
        #: When the one before it ended.
        self.since_ns = 0
        self._progress = progress

    def begin(self) -> None:
        """Makes it the next child's."""
        self.number += 1
        self.since_ns = time.monotonic_ns()
        self._progress[_POINT] = WAITING

    def reached(self, point: int) -> None:
        """Tells the worker how far this child came."""
        self._progress[_POINT] = point

    def ordinal_changed(self, ordinal: int) -> None:
        """Tells the worker of the ordinal, which hardly ever changes: what is set for it is set for the next children, too."""
        self._progress[_ORDINAL] = ordinal.to_bytes(2, "little")
        self._progress[_MOVED] = 1

    def ended(self) -> None:
        """The loop came to its end: the job, if there was one, is answered."""
        self._progress[_POINT] = ANSWERED if self._progress[_POINT] == TOOK_JOB else LEFT


class Keeper:
    """Keeps a child that waits for a job, until the supervisor hangs up or SIGTERM comes."""

    def __init__(self) -> None:
        self._progress = mmap.mmap(-1, mmap.PAGESIZE)
        #: Whom SIGTERM is passed on to.
        self._child = 0
        self._leaving = False
        #: Where the kernel lists the worker's children. None: it does not.
        self._children: Optional[int] = None

    def serve(self, set_ordinal: Callable[[int], None]) -> Optional[Turn]:
        """Returns in each child, with its turn; and in the worker when it is to leave, with None.

        `set_ordinal` is told the worker's ordinal, once the first job has named it.
        """
        _adopt_orphans()
        with contextlib.suppress(OSError):
            self._children = os.open(_CHILDREN, os.O_RDONLY | os.O_CLOEXEC)
        at_fork.make_room()
        turn = Turn(self._progress)
        while not self._leaving:
            turn.begin()
            pid = self._fork()
            if pid == 0:
                return turn
            status = self._wait(pid)
            point = self._progress[_POINT]
            if point == LEFT or (self._leaving and point == WAITING):
                break
            if point != ANSWERED:
                _die_like(status)
            # To be told that there are none is an exception, and that is a dozen pages to copy.
            if self._children is None or os.pread(self._children, 1, 0):
                _end_leftovers()
            if self._progress[_MOVED]:
                self._progress[_MOVED] = 0
                set_ordinal(int.from_bytes(self._progress[_ORDINAL], "little"))
        return None

    def leave_when_done(self, *_signal: Any) -> None:
        """Handles SIGTERM: ends with the running job. A second one ends it at once."""
        quick.signal(quick.SIGTERM, quick.SIG_DFL)
        self._leaving = True
        if self._child:
            os.kill(self._child, signal.SIGTERM)

    def _fork(self) -> int:
        if quick.getsignal(quick.SIGTERM) == quick.SIG_DFL:  # RQ's way: the signal ends both, and nobody passes it on
            return at_fork.fork_alone()
        # In the child the signal must not find the worker's handler.
        quick.pthread_sigmask(quick.SIG_BLOCK, _TERMINATION)
        pid = self._child = at_fork.fork_alone()
        if pid == 0:
            quick.signal(quick.SIGTERM, quick.SIG_DFL)
        quick.pthread_sigmask(quick.SIG_UNBLOCK, _TERMINATION)
        return pid

    def _wait(self, pid: int) -> int:
        """Waits for the child's end; its wait status."""
        if self._child:
            # Until it is reaped its number is its own: SIGTERM may be passed on to one that has just ended.
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            self._child = 0
        _, status = os.waitpid(pid, 0)
        return status


def _adopt_orphans() -> None:
    """What a job leaves running becomes a child of the worker. Without `ctypes` it ends with the worker."""
    if ctypes is not None:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_leftovers() -> None:
    """What a job left running in the worker's group ends with the job's process. Daemons have left the group."""
    while True:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if ended:
            continue
        left = [pid for pid in _children() if _group_of(pid) == os.getpgrp()]
        if not left:
            return
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        for pid in left:
            os.waitpid(pid, 0)


def _children() -> list[int]:
    try:
        with open(_CHILDREN) as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []  # a kernel that does not tell: they end with the worker


def _group_of(pid: int) -> Optional[int]:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _die_like(status: int) -> NoReturn:
    """Ends as the child did, so that the supervisor learns how."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the child's is the one to look into
        if number != signal.SIGKILL:
            quick.signal(number, quick.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))
