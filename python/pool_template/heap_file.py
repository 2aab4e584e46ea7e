"""Moves the heap into a file in memory, at the addresses where it is, for processes that fork for each job.

A fork copies the page tables of anonymous memory, and the end of the process takes them apart again: for the heap of
an application that is more work than most jobs are. Of a file that is mapped privately it copies nothing but what
was touched since, page by page; the rest is looked up in the file when it is touched. Source: Linux, mm/memory.c,
`vma_needs_copy` and `copy_page_range`. What a process writes is its own, as ever, 4 KiB at a time.

Moved is only what is known to be Python's, the C library's or a shared library's: an allocator of another kind may
give memory back to the kernel and count on finding zeros there later. It would find the file.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from typing import Iterator, Optional

from pool_template import areas, arenas, at_fork, fault_around, huge_pages
from pool_template.areas import HEAP_FILE, PAGE, Range
from pool_template.c_chain import Call, Chain, Unsupported
from pool_template.fault_around import PageByPage
from pool_template.huge_pages import HUGE_PAGE, ctypes

#: How far the areas are apart in the file. One may grow (`mremap`): into nothing, not into its neighbour.
_APART = 1 << 40
#: So much is copied at once. For a moment it is there twice.
_PIECE = 8 << 20
#: What the kernel was told of memory that may be moved: nothing but that it may be read and written, and the like.
_PLAIN = frozenset(("rd", "wr", "mr", "mw", "me", "ac", "sd"))
#: Of the word that the C library puts before what it got from the kernel for one request: this is such, and the size of
#: it is a number of whole pages. Source: glibc, malloc/malloc.c, `IS_MMAPPED`.
_FLAGS, _IS_MMAPPED = 7, 2
#: Less than a pool.
_LEFT_OVER = 16_384
#: Source: Linux, include/uapi/linux/memfd.h. Kernels before 6.3 don't know it.
_MFD_NOEXEC_SEAL = 8
_MAP_FIXED, _MADV_POPULATE_READ = 0x10, 22
#: Private mappings of files are part of a core dump. Source: `core(5)`.
_DUMP_PRIVATE_FILES = 1 << 2

#: Where the file is, and what has its pages mapped one by one.
_parts: list[Range] = []
_pages: Optional[PageByPage] = None


def move() -> tuple[int, Optional[str]]:
    """Moves what it may. To be called ahead of `collapse_heap`, which is for the rest.

    Returns the bytes moved and, when there are none, why.
    """
    global _pages
    why: Optional[str] = None
    try:
        if not _is_alone():
            return 0, "other threads are running"
        _move()
    except Unsupported as unsupported:
        why = str(unsupported)
    except Exception as error:  # it is about speed alone: an application loads without it
        why = f"no copy could be made: {error}"
    _parts[:] = _found_parts()
    if not _parts and _pages is not None:
        _pages.close()
        _pages = None
    moved = sum(end - start for start, end in _parts)
    return moved, None if moved else why


def become_worker() -> None:
    """Has the file's pages mapped one by one here, too, in a process that will fork many times itself."""
    global _pages
    if _pages is not None:
        _pages.close()
        _pages = None
        with contextlib.suppress(OSError):
            _pages = PageByPage()
            _pages.add(_parts)


def _move() -> None:
    global _pages
    chain = Chain(3)  # first of all: it says where none of this is supported, `fault_around` included
    _pages = fault_around.open_if_allowed()
    with _Mover(chain, _pages) as mover:
        mover.rehearse()
    with _Mover(chain, _pages) as mover:
        for known, mode in list(_known()):
            for start, end in _used(*known):
                mover.move(start, end, mode)
    _dump_whole()


class _Mover:
    """The file, and the way into it."""

    def __init__(self, chain: Chain, pages: Optional[PageByPage]) -> None:
        self._chain = chain
        self._pages = pages
        self._file = _make_file()
        self._areas = 0

    def __enter__(self) -> _Mover:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._file)

    def move(self, start: int, end: int, mode: str) -> None:
        """Puts the file where these pages are, with what they hold."""
        self._areas += 1
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if "w" in mode else 0)
        in_file = self._areas * _APART
        os.ftruncate(self._file, in_file + _APART)
        bounds = [start, *range((start // _PIECE + 1) * _PIECE, end, _PIECE), end]
        for at, next_at in zip(bounds, bounds[1:]):
            self._move(at, next_at - at, protection, in_file + at - start)
        self._keep(end - start, in_file)

    def _move(self, start: int, size: int, protection: int, in_file: int) -> None:
        os.posix_fallocate(self._file, in_file, size)  # or there may be no memory for it in the middle of the copy
        with mmap.mmap(self._file, size, offset=in_file) as view:
            first = ctypes.c_char.from_buffer(view)
            calls: list[Call] = [
                ("memcpy", (ctypes.addressof(first), start, size)),
                ("mmap", (start, size, protection, mmap.MAP_PRIVATE | _MAP_FIXED, self._file, in_file)),
            ]
            if self._pages is not None:  # at once: what is mapped stays mapped
                calls.append(self._pages.adding(start, size))
            self._chain.run(*calls)
            del first

    def _keep(self, size: int, in_file: int) -> None:
        """Maps this part of the file once more, where no fork copies it, so that what it takes is said to be this
        process's: of what was written to since, the file's own is mapped nowhere else."""
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        sized = ctypes.c_size_t(size)
        at = libc.mmap(None, sized, mmap.PROT_READ, mmap.MAP_SHARED, self._file, ctypes.c_size_t(in_file))
        if at != ctypes.c_void_p(-1).value and libc.madvise(ctypes.c_void_p(at), sized, mmap.MADV_DONTFORK) == 0:
            libc.madvise(ctypes.c_void_p(at), sized, _MADV_POPULATE_READ)

    def rehearse(self) -> None:
        """Moves memory of no importance, and looks what became of it."""
        with mmap.mmap(-1, 4 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as room:
            room[:] = held = os.urandom(len(room))
            first = ctypes.c_char.from_buffer(room)
            start = ctypes.addressof(first)
            del first
            os.ftruncate(self._file, len(room))
            self._move(start, len(room), mmap.PROT_READ | mmap.PROT_WRITE, 0)
            if _found_parts() != [(start, start + len(room))] or room[:] != held:
                raise Unsupported("memory can't be moved here")


def _make_file() -> int:
    if not hasattr(os, "memfd_create"):  # built for an old C library, as Conda's
        raise Unsupported("this Python has no os.memfd_create")
    try:
        return os.memfd_create(HEAP_FILE, os.MFD_CLOEXEC | _MFD_NOEXEC_SEAL)
    except OSError:
        return os.memfd_create(HEAP_FILE, os.MFD_CLOEXEC)


def _is_alone() -> bool:
    """This process has one thread."""
    if len(os.listdir("/proc/self/task")) == 1:
        return True
    # There are libraries (OpenBLAS) that end their threads at a fork, and start them again when they need them. The
    # first worker's fork would be such a one, too.
    at_fork.goes_well(lambda: None)
    return len(os.listdir("/proc/self/task")) == 1


def _known() -> Iterator[tuple[Range, str]]:
    """What may be moved, each with the mode of its area."""
    everything = areas.details()
    plain = [each for each in everything if each.flags <= _PLAIN]
    memory = [each.area for each in plain if each.area.is_anonymous and each.area.mode == "rw-p"]
    # What was never touched must not be looked at, either: it would be in memory then.
    of_python = arenas.find(used for area in memory if area.name != "[heap]" for used in _used(*area.range))
    others = areas.without((area.range for area in memory), of_python)
    heap = [area.range for area in memory if area.name == "[heap]"]
    of_c = heap + [each for other in others for each in _of_requests(*other)] if _is_glibcs_heap() else []
    yield from ((each, "rw-p") for each in areas.joined(of_python + of_c))
    libraries = {area.name for area, _, _ in everything if area.inode and "x" in area.mode}
    for area, anonymous, _ in plain:
        if area.mode in ("rw-p", "r--p") and area.name in libraries and anonymous:
            yield area.range, area.mode


def _is_glibcs_heap() -> bool:
    """`malloc` is the C library's own, and this is the GNU one."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    files = [area for area in areas.of_this_process() if area.inode]

    def file_of(name: str) -> str:
        address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
        return next((area.name for area in files if area.start <= address < area.end), "")

    own = file_of("gnu_get_libc_version")
    # Another allocator brings all four. Where the program is not position-independent, as Debian's Python, the address
    # of a function is in some cases that of the program's jump to it.
    found = {file_of(name) for name in ("malloc", "free", "calloc", "realloc")}
    return own in found and found <= {own, os.path.realpath("/proc/self/exe")}


def _of_requests(start: int, end: int) -> list[Range]:
    """What the C library got from the kernel for single, large requests, where this is nothing else, or nearly: arenas
    may have left some pages at either end."""
    found: list[Range] = []
    at, unknown = start, 0
    while at < end and unknown < _LEFT_OVER:
        before, word = (ctypes.c_size_t.from_address(at + offset).value for offset in (0, 8))
        size = word & ~_FLAGS
        if before == 0 and word & _FLAGS == _IS_MMAPPED and size and size % PAGE == 0 and at + size <= end:
            found.append((at, at + size))
            at += size
        else:
            unknown += PAGE
            at += PAGE
    return areas.joined(found) if unknown < _LEFT_OVER else []


def _used(start: int, end: int) -> list[Range]:
    """Where most of it is in memory: what was never touched takes none, and would in a file."""
    bounds = [start, *range(-(-(start + 1) // HUGE_PAGE) * HUGE_PAGE, end, HUGE_PAGE), end]
    blocks = zip(bounds, bounds[1:])
    return areas.joined(each for each in blocks if huge_pages.is_mostly_used(each[0], each[1] - each[0]))


def _found_parts() -> list[Range]:
    return [area.range for area in areas.of_this_process() if area.is_heap_file]


def _dump_whole() -> None:
    """Has the kernel put the file into core dumps, as it does with a heap."""
    try:
        with open("/proc/self/coredump_filter", "r+") as file:
            wanted = int(file.read(), 16) | _DUMP_PRIVATE_FILES
            file.seek(0)
            file.write(f"{wanted:#x}")
    except OSError:
        pass  # a kernel without core dumps
