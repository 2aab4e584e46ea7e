"""Collapses the heap into huge pages: a fork then copies 512 times fewer page-table entries.

Sharing stays as fine as before: the kernel splits a huge page again where a worker writes.
"""

from __future__ import annotations

import errno
import os
from typing import Iterator, Optional

try:
    import ctypes
except ImportError:  # an interpreter built without libffi
    ctypes = None  # type: ignore[assignment]

HUGE_PAGE = 2 << 20
_PAGE = 4096
#: Source: Linux, include/uapi/asm-generic/mman-common.h.
_MADV_COLLAPSE = 25
#: A huge page is worth its memory when at least half of it is in use. (Stacks of threads, for one, are not.)
_PAGES_USED_MIN = HUGE_PAGE // _PAGE // 2


def collapse_heap() -> tuple[int, Optional[str]]:
    """Collapses this process's private anonymous memory where most of it is in use.

    Returns the bytes collapsed and, when there are none, why.
    """
    if ctypes is None:
        return 0, "this Python has no ctypes module"
    libc = ctypes.CDLL(None, use_errno=True)
    collapsed, skipped = 0, "the heap is smaller than a huge page"
    for block in list(_blocks()):
        used = _pages_used(libc, block)
        if used is None:
            skipped = f"mincore: {os.strerror(ctypes.get_errno())}"
            break
        if used < _PAGES_USED_MIN:
            continue
        if libc.madvise(ctypes.c_void_p(block), ctypes.c_size_t(HUGE_PAGE), _MADV_COLLAPSE) == 0:
            collapsed += HUGE_PAGE
        elif ctypes.get_errno() == errno.EINVAL:
            skipped = "the kernel can't collapse memory on request (Linux 6.1 can)"
            break
        else:
            skipped = f"madvise(MADV_COLLAPSE): {os.strerror(ctypes.get_errno())}"
    return collapsed, None if collapsed else skipped


def _blocks() -> Iterator[int]:
    """Addresses of the whole, aligned huge pages in private, writable, anonymous memory."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            addresses, mode, _offset, _device, inode, *name = line.split()
            anonymous = inode == "0" and (not name or name[0] == "[heap]" or name[0].startswith("[anon"))
            if not anonymous or mode != "rw-p":
                continue
            start, end = (int(address, 16) for address in addresses.split("-"))
            yield from range(-(-start // HUGE_PAGE) * HUGE_PAGE, end - HUGE_PAGE + 1, HUGE_PAGE)


def _pages_used(libc: ctypes.CDLL, block: int) -> Optional[int]:
    """How many pages of a block are in memory. None: the kernel does not say, and errno has the reason."""
    present = ctypes.create_string_buffer(HUGE_PAGE // _PAGE)
    if libc.mincore(ctypes.c_void_p(block), ctypes.c_size_t(HUGE_PAGE), present) == 0:
        return present.raw.count(1)
    return 0 if ctypes.get_errno() == errno.ENOMEM else None  # it was unmapped meanwhile
