"""Room for Python's small objects, side by side.

Python takes memory for them in arenas of 1 MiB (before 3.10: 256 KiB), one at a time, while it imports. The shared
libraries that the same imports load come to lie between them, so that much of what an application imports could not
be in huge pages. So some are taken ahead of the imports, and given back where they were not needed.

This is about speed alone: where an interpreter does it in another way, nothing is gained and nothing is lost.
"""

from __future__ import annotations

import mmap
from typing import Optional

from pool_template.memory import areas
from pool_template.memory.huge_pages import HUGE_PAGE

#: What the imports of an application take, or most of it: behind them few libraries are loaded.
_RESERVED = 64 << 20
#: The largest object that lies in an arena, and how much of it is Python's own. Source: CPython, Objects/obmalloc.c.
_BLOCK, _OVERHEAD = 512, b"".__sizeof__()
#: From one such object to the next: in a pool, which is an arena's part for objects of one size, or from pool to pool.
_IN_POOL, _TO_NEXT_POOL = 512, 1024

_held: list[bytes] = []


def reserve() -> None:
    """Makes the room. To be called first of all, in a process that has one thread."""
    try:
        # At its full length from the beginning: a list that grows would move, and leave gaps between the arenas.
        blocks = [b""] * (_RESERVED // _BLOCK)
        filling = _align()
        for at in range(len(blocks)):
            blocks[at] = bytes(_BLOCK - _OVERHEAD)
    except (MemoryError, OSError):
        return  # it will do without
    # An arena stays as long as anything is in it: here its first pool. That is full, and takes no other objects in.
    before, in_pools, is_first = id(blocks[0]), 0, False
    for block in blocks:
        step, before = id(block) - before, id(block)
        if step == _IN_POOL:
            in_pools += 1
        else:
            is_first = step != _TO_NEXT_POOL
        if is_first:
            _held.append(block)
    if in_pools < len(blocks) // 2:  # there are no pools, as with `PYTHONMALLOC=malloc`
        _held.clear()
    if filling is not None:
        filling.close()


def release() -> None:
    """Gives back what is unused. What is used stays."""
    _held.clear()


def _align() -> Optional[mmap.mmap]:
    """Fills what is above the next boundary of huge pages: the kernel puts one mapping below the other."""
    mapped = areas.of_this_process()
    # They begin above the widest gap; the last area is the kernel's own.
    _, lowest = max((above.start - below.end, above.start) for below, above in zip(mapped, mapped[1:-1]))
    rest = lowest % HUGE_PAGE
    return mmap.mmap(-1, rest, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) if rest else None
