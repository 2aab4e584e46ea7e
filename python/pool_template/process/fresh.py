"""A process for each job: `app.isolation = "fresh"`.

The worker itself runs no job. It forks a child that waits for one, runs it, answers and ends; then it forks the next.
So a job finds a process that is there already, and what a worker sets up is set up once, not once a job.

To the supervisor the two are one worker. The child has the worker's job socket, so that jobs are taken back from it as
from a worker; when it dies with a job, the worker dies in the same way; and when the worker dies, the kernel kills the
child with all that its job started.

The child leads a session and a process group of its own: so a job can't leave its group.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import resource
import signal
import time
from typing import Any, Callable, Iterable, NoReturn, Optional

from pool_template.memory import heap
from pool_template.process import at_fork, lifeline
from pool_template.process.signals import quick

try:
    import ctypes
except ImportError:  # an interpreter built without libffi
    ctypes = None  # type: ignore[assignment]

#: How far a child came.
WAITING, TOOK_JOB, ANSWERED, LEFT = range(4)
#: What a child shares with its worker: how far it came, whether it learned of another ordinal, and of which.
_POINT, _CHANGED, _ORDINAL = 0, 1, slice(2, 4)

#: Source: Linux, include/uapi/linux/prctl.h.
_PR_SET_CHILD_SUBREAPER = 36
_TERMINATION = (signal.SIGTERM,)
#: The numbers of a thread's children, and of the orphans that it adopted. Source: `proc_tid_children(5)`.
_CHILDREN = "/proc/thread-self/children"


class Child:
    """What a child knows of itself and its one job."""

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
        self._progress[_CHANGED] = 1

    def ended(self) -> None:
        """The loop came to its end: the job, if there was one, is answered."""
        self._progress[_POINT] = ANSWERED if self._progress[_POINT] == TOOK_JOB else LEFT


class Children:
    """Has a child wait for a job at any time, until the supervisor hangs up or SIGTERM comes."""

    def __init__(self) -> None:
        self._progress = mmap.mmap(-1, mmap.PAGESIZE)
        self._worker = os.getpid()
        #: Whom SIGTERM is passed on to.
        self._child = 0
        self._leaving = False
        #: Where the kernel lists the worker's children. None: it does not.
        self._listed: Optional[int] = None
        # The process that dies closes its descriptors in their order: what the kernel listens at must close last.
        read, self._held = os.pipe2(os.O_CLOEXEC)
        self._lifeline = fcntl.fcntl(read, fcntl.F_DUPFD_CLOEXEC, self._held + 1)
        os.close(read)

    def serve(self, set_ordinal: Callable[[int], None]) -> Optional[Child]:
        """Returns in each child, with what it is; and in the worker when it is to leave, with None.

        `set_ordinal` is told of the worker's ordinal, once the first job has named it.
        """
        _adopt_orphans()
        with contextlib.suppress(OSError):
            self._listed = os.open(_CHILDREN, os.O_RDONLY | os.O_CLOEXEC)
        lifeline.arm(self._lifeline)
        heap.make_room()
        child = Child(self._progress)
        while not self._leaving:
            child.begin()
            pid = self._fork()
            if pid == 0:
                self._stand_alone()
                return child
            status = self._wait(pid)
            point = self._progress[_POINT]
            if point == LEFT or (self._leaving and point == WAITING):
                break
            if point != ANSWERED:
                _die_like(status)
            # To be told that there are none is an exception, and that is a dozen pages to copy.
            if self._listed is None or os.pread(self._listed, 1, 0):
                _reap(pid)
            if self._progress[_CHANGED]:
                self._progress[_CHANGED] = 0
                set_ordinal(int.from_bytes(self._progress[_ORDINAL], "little"))
        return None

    def leave_when_done(self, *_signal: Any) -> None:
        """Handles SIGTERM: ends with the running job. A second one ends it at once."""
        quick.signal(quick.SIGTERM, quick.SIG_DFL)
        self._leaving = True
        if self._child:
            os.kill(self._child, signal.SIGTERM)

    def pass_on(self, numbers: Iterable[int]) -> None:
        """These are for the child that runs the job."""
        for number in numbers:
            quick.signal(number, self._signal_child)

    def _signal_child(self, number: int, _frame: Any) -> None:
        if self._child and self._progress[_POINT] == TOOK_JOB:
            os.kill(self._child, number)

    def _fork(self) -> int:
        if quick.getsignal(quick.SIGTERM) == quick.SIG_DFL:  # it ends the worker, and with it the child
            return at_fork.fork_own()
        # In the child the signal must not find the worker's handler.
        quick.pthread_sigmask(quick.SIG_BLOCK, _TERMINATION)
        pid = self._child = at_fork.fork_own()
        if pid == 0:
            quick.signal(quick.SIGTERM, quick.SIG_DFL)
        quick.pthread_sigmask(quick.SIG_UNBLOCK, _TERMINATION)
        return pid

    def _stand_alone(self) -> None:
        """In the child: it leads a group of its own, which ends with the worker."""
        os.setsid()
        os.close(self._held)
        lifeline.own(self._lifeline)
        if os.getppid() != self._worker:  # it died before that, and nobody will tell
            os._exit(0)

    def _wait(self, pid: int) -> int:
        """Waits for the child's end; its wait status. What its job left running ends with it. Daemons have left the
        group."""
        # Until it is reaped its number is its own and its group's: SIGTERM may still be passed on to it.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        self._child = 0
        # One that was killed before it led its group is in the worker's.
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        return status


def _adopt_orphans() -> None:
    """What a job leaves running becomes a child of the worker, which reaps it. Without `ctypes` the supervisor does."""
    if ctypes is not None:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap(group: int) -> None:
    """Reaps what was killed with this group, and what else has ended."""
    for pid in _children():
        if _group_of(pid) == group:
            os.waitpid(pid, 0)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _children() -> list[int]:
    try:
        with open(_CHILDREN) as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []  # a kernel that does not tell


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
