"""The areas of this process's memory, as the kernel lists them. Source: `proc_pid_maps(5)`, `proc_pid_smaps(5)`."""

from __future__ import annotations

from typing import Iterable, NamedTuple

PAGE = 4096

#: From an address up to, not including, another one.
Range = tuple[int, int]

#: The file in memory that the heap was moved into; see `heap_file`.
HEAP_FILE = "pool-heap"


class Area(NamedTuple):
    """One mapping: from `start` up to, not including, `end`."""

    start: int
    end: int
    #: Such as `rw-p`: readable, writable, not executable, private.
    mode: str
    #: 0: no file.
    inode: int
    #: Of the file, or the kernel's own for it, or nothing.
    name: str

    @property
    def range(self) -> Range:
        """Its addresses."""
        return self.start, self.end

    @property
    def is_anonymous(self) -> bool:
        """Neither a file nor something of the kernel's own, such as a stack."""
        return self.inode == 0 and (not self.name or self.name == "[heap]" or self.name.startswith("[anon"))

    @property
    def is_heap_file(self) -> bool:
        """The heap was here, and was moved."""
        return self.mode.endswith("p") and self.name.startswith(f"/memfd:{HEAP_FILE} ")


class Details(NamedTuple):
    """What `smaps` says besides."""

    area: Area
    #: Bytes that are this process's alone, or were before it forked, and not the file's.
    anonymous: int
    #: What the kernel was told, two letters each, such as `dc` for an area that forked processes do not get.
    flags: frozenset[str]


def of_this_process() -> list[Area]:
    """All of them, by address."""
    with open("/proc/self/maps") as maps:
        return [_area(line) for line in maps]


def details() -> list[Details]:
    """All of them, by address. It takes the kernel far longer."""
    found: list[Details] = []
    line, anonymous = "", 0
    with open("/proc/self/smaps") as lines:
        for each in lines:
            key, *values = each.split()
            if not key.endswith(":"):
                line = each
            elif key == "Anonymous:":
                anonymous = int(values[0]) * 1024
            elif key == "VmFlags:":  # the last one of each
                found.append(Details(_area(line), anonymous, frozenset(values)))
    return found


def joined(ranges: Iterable[Range]) -> list[Range]:
    """The same addresses in as few ranges as possible, by address."""
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def common(these: Iterable[Range], those: Iterable[Range]) -> list[Range]:
    """What is in both, by address."""
    those = list(those)
    pairs = ((max(a, c), min(b, d)) for a, b in these for c, d in those)
    return sorted((start, end) for start, end in pairs if start < end)


def without(these: Iterable[Range], those: Iterable[Range]) -> list[Range]:
    """What is in these and not in those."""
    those, found = joined(those), []
    for start, end in these:
        for gap_start, gap_end in those:
            if gap_end <= start or end <= gap_start:
                continue
            if start < gap_start:
                found.append((start, gap_start))
            start = gap_end
        if start < end:
            found.append((start, end))
    return found


def _area(line: str) -> Area:
    addresses, mode, _offset, _device, inode, *name = line.split(None, 5)
    start, _, end = addresses.partition("-")
    return Area(int(start, 16), int(end, 16), mode, int(inode), name[0].strip() if name else "")
