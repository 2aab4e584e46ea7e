"""Has the kernel map the heap's file page by page.

Whoever looks at a page of a file that is not mapped yet gets its neighbours mapped too, 16 pages at once
(fault-around). Of a heap few neighbours are wanted, and each page that is mapped is work at each fork and at the end of
each process: a large application's workers had three times as many mapped as they use.

Memory that a userfaultfd watches for writes to protected pages is exempt from it. Here nothing is ever protected, so
there is nothing to watch, and nobody ever reads the descriptor. Source: Linux, mm/memory.c, `should_fault_around`, and
include/linux/userfaultfd_k.h, `uffd_disable_fault_around`.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import resource
import struct
from typing import Iterable, Optional

from pool_template import at_fork
from pool_template.areas import Range
from pool_template.c_chain import Call
from pool_template.huge_pages import ctypes

#: On x86-64. Source: `userfaultfd(2)`, and Linux, arch/x86/entry/syscalls/syscall_64.tbl.
_SYS_USERFAULTFD = 323
#: Of faults in the kernel it wants to know nothing; else it would need rights.
_UFFD_USER_MODE_ONLY = 1
#: Commands of `ioctl`, what they take, and values of that. Source: `ioctl_userfaultfd(2)`, include/uapi/linux/userfaultfd.h.
_UFFDIO_API, _API = 0xC018AA3F, struct.pack("QQQ", 0xAA, 0, 0)
_UFFDIO_REGISTER, _REGISTER, _MODE_WP = 0xC020AA00, struct.Struct("QQQQ"), 2
#: Source: `proc_pid_status(5)`.
_SECCOMP_MODE_FILTER = 2


class PageByPage:
    """Parts of this process's memory that are mapped page by page, until it is closed. A forked process's are not."""

    def __init__(self) -> None:
        """Raises `OSError` where the kernel refuses it."""
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.syscall(_SYS_USERFAULTFD, os.O_CLOEXEC | _UFFD_USER_MODE_ONLY)
        if self._descriptor < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        try:
            fcntl.ioctl(self._descriptor, _UFFDIO_API, _API)
        except OSError:
            self.close()
            raise
        #: What the kernel reads, and writes an answer into. Shared memory, so that it is never part of what it is about;
        #: and only where it is needed, since a worker copies each mapping for each job.
        self._asked: Optional[mmap.mmap] = None

    def adding(self, start: int, size: int) -> Call:
        """The call that adds a part. To be made before the next one is asked for."""
        if self._asked is None:
            self._asked = mmap.mmap(-1, mmap.PAGESIZE)
        self._asked[: _REGISTER.size] = _REGISTER.pack(start, size, _MODE_WP, 0)
        first = ctypes.c_char.from_buffer(self._asked)
        return "ioctl", (self._descriptor, _UFFDIO_REGISTER, ctypes.addressof(first))

    def add(self, parts: Iterable[Range]) -> None:
        """Adds these, but for those where there is something else by now."""
        for start, end in parts:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._descriptor, _UFFDIO_REGISTER, _REGISTER.pack(start, end - start, _MODE_WP, 0))

    def close(self) -> None:
        """It may be mapped with its neighbours again."""
        os.close(self._descriptor)


def open_if_allowed() -> Optional[PageByPage]:
    """None where the kernel has no such thing, or it may not be used here."""
    try:
        return PageByPage() if not _is_filtered() or at_fork.goes_well(_try_it) else None
    except OSError:
        return None


def _is_filtered() -> bool:
    """A sandbox looks at this process's system calls. It may end the process for one that it does not know."""
    with open("/proc/self/status") as file:
        return f"\nSeccomp:\t{_SECCOMP_MODE_FILTER}\n" in file.read()


def _try_it() -> None:
    """For a process of its own."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    PageByPage()
