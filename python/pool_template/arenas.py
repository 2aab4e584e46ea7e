"""Room for Python's small objects, side by side.

Python takes memory for them in arenas of 1 MiB (before 3.10: 256 KiB), one at a time, while it imports. The shared
libraries that the same imports load come to lie between them, so that much of what an application imports could not
be in huge pages. So some are taken ahead of the imports, and given back where they were not needed.

This is about speed alone: where an interpreter does it in another way, nothing is gained and nothing is lost.
"""

from __future__ import annotations

import gc
import itertools
import mmap
import struct
import sys
from typing import Iterable, Iterator, Optional

from pool_template import areas
from pool_template.areas import Range
from pool_template.huge_pages import HUGE_PAGE, ctypes

#: What the imports of an application take, or most of it: behind them few libraries are loaded.
_RESERVED = 64 << 20
#: The largest object that lies in an arena, and how much of it is Python's own. Source: CPython, Objects/obmalloc.c.
_BLOCK, _OVERHEAD = 512, b"".__sizeof__()
#: From one such object to the next: in a pool, which is an arena's part for objects of one size, or from pool to pool.
_IN_POOL, _TO_NEXT_POOL = 512, 1024
#: A pool begins at a multiple of its size.
_POOL = 16_384 if sys.version_info >= (3, 10) else 4_096
#: What a pool begins with has, so far in, the number of its arena, the class of its objects' sizes, how far it is in
#: use, and where its last object begins. Of a class the sizes are a step larger than of the one before.
#: Source: CPython, Include/internal/pycore_obmalloc.h (before 3.12: Objects/obmalloc.c), `struct pool_header`.
_HEAD, _HEAD_AT, _STEP = struct.Struct("<IIII"), 32, 16

#: So many objects are looked at together, for what they refer to is listed.
_LOOKED_AT = 10_000

_held: list[bytes] = []
#: The numbers of the pools in which there are objects, where there are pools at all.
_inhabited: set[int] = set()


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


def look() -> None:
    """Notes where there are objects, for `find`. To be called before they are frozen, which hides them."""
    objects = gc.get_objects()
    for at in range(0, len(objects), _LOOKED_AT):
        some = objects[at : at + _LOOKED_AT]
        # The collector does not know those that refer to nothing that it knows: dictionaries of texts, for one.
        for found in (some, gc.get_referents(*some)):
            _inhabited.update(address // _POOL for address in map(id, found))


def find(where: Iterable[Range]) -> list[Range]:
    """The arenas in these areas, as far as they are in use, and there was an object in one of their pools."""
    rows = [row for area in where for row in _rows(area) if not _inhabited.isdisjoint(range(*row))]
    # Between two that do not begin with a pool is what is left of both.
    ends = {end for _, end in rows}
    return areas.joined(((first - (first - 1 in ends)) * _POOL, end * _POOL) for first, end in rows)


def _rows(area: Range) -> Iterator[Range]:
    """Pools of one arena, side by side: the numbers of the first, and of the one behind the last."""
    start, end = -(-area[0] // _POOL), area[1] // _POOL
    for arena, row in itertools.groupby(range(start, end), _arena_of):
        if arena is not None:
            pools = list(row)
            yield pools[0], pools[-1] + 1


def _arena_of(pool: int) -> Optional[int]:
    """The number of this pool's arena. None: what is there is no pool, or none yet."""
    arena, size_class, _, last_at = _HEAD.unpack(ctypes.string_at(pool * _POOL + _HEAD_AT, _HEAD.size))
    size = (size_class + 1) * _STEP
    return arena if size <= _BLOCK and last_at == _POOL - size else None


def _align() -> Optional[mmap.mmap]:
    """Fills what is above the next boundary of huge pages: the kernel puts one mapping below the other."""
    mapped = areas.of_this_process()
    # They begin above the widest gap; the last area is the kernel's own.
    _, lowest = max((above.start - below.end, above.start) for below, above in zip(mapped, mapped[1:-1]))
    rest = lowest % HUGE_PAGE
    return mmap.mmap(-1, rest, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) if rest else None
