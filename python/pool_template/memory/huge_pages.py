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

from pool_template.memory import areas
from pool_template.memory.areas import PAGE

HUGE_PAGE = 2 << 20
#: Source: Linux, include/uapi/asm-generic/mman-common.h.
_MADV_COLLAPSE = 25


def collapse_heap() -> tuple[int, Optional[str]]:
    """Collapses this process's private anonymous memory where most of it is in use.

    Returns the bytes collapsed and, when there are none, why.
    """
    if ctypes is None:
        return 0, "this Python has no ctypes module"
    collapsed, skipped = 0, "the heap is smaller than a huge page"
    for block in list(_blocks()):
        try:
            if not is_mostly_used(block, HUGE_PAGE):
                continue
            _collapse(block)
        except OSError as error:
            skipped = str(error.strerror)
        else:
            collapsed += HUGE_PAGE
    return collapsed, None if collapsed else skipped


def _collapse(block: int) -> None:
    """Collapses what begins at this boundary of huge pages. An error says why not."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.madvise(ctypes.c_void_p(block), ctypes.c_size_t(HUGE_PAGE), _MADV_COLLAPSE):
        number = ctypes.get_errno()
        if number == errno.EINVAL:
            raise OSError(number, "the kernel can't collapse memory on request (Linux 6.1 can)")
        raise OSError(number, f"madvise(MADV_COLLAPSE): {os.strerror(number)}")


def is_mostly_used(start: int, size: int) -> bool:
    """At least half of these pages are in memory. (Of a thread's stack, for one, they are not.)"""
    libc = ctypes.CDLL(None, use_errno=True)
    present = ctypes.create_string_buffer(size // PAGE)
    if libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(size), present) == 0:
        return 2 * present.raw.count(1) >= len(present)
    number = ctypes.get_errno()
    if number == errno.ENOMEM:  # it was unmapped meanwhile
        return False
    raise OSError(number, f"mincore: {os.strerror(number)}")


def _blocks() -> Iterator[int]:
    """Addresses of the whole, aligned huge pages in private, writable, anonymous memory."""
    for area in areas.of_this_process():
        if area.mode == "rw-p" and area.is_anonymous:
            first = -(-area.start // HUGE_PAGE) * HUGE_PAGE
            yield from range(first, area.end - HUGE_PAGE + 1, HUGE_PAGE)
