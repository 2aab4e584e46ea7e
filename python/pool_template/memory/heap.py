"""The heap as forks find it: nothing in it is written to without need."""

from __future__ import annotations

import gc
import threading
from typing import Any

from pool_template.memory.huge_pages import ctypes  # None where there is none

#: As many locks as glibc keeps at hand of one size, and how many fill the gaps.
_LOCKS_AT_HAND, _LOCKS = 7, 200
_locks: list[Any] = []
#: Bytes of a request that is large to glibc, and not so large that it asks the kernel.
_LARGE = 100_000


def clean() -> None:
    """Frees the garbage that the load left."""
    gc.collect()


def give_back() -> None:
    """Has the C library return what it keeps of freed memory, which can be tens of megabytes after a load: each
    block that was freed there raises the bound up to which it keeps more (`mallopt(3)`, `M_MMAP_THRESHOLD`)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if ctypes else None
    if trim is not None:  # glibc has it, musl has not
        trim(0)


def freeze() -> None:
    """Moves everything that is loaded out of the garbage collector's sight, so that its passes in the workers
    write to none of the pages that they share. After `clean`."""
    gc.freeze()


def tidy() -> None:
    """Has the C library sort what was freed, which it does at a large request, writing all over the heap; and fills the
    gaps that the locks would be put into which Python makes anew in each process that was forked. Called in the
    template, before the heap is put into huge pages."""
    _locks.extend(threading.Lock() for _ in range(_LOCKS))
    bytearray(_LARGE)


def make_room() -> None:
    """Leaves room at hand for those locks, side by side. Called ahead of many forks."""
    bytearray(_LARGE)
    del _locks[-_LOCKS_AT_HAND:]
