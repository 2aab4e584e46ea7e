"""The areas of this process's memory, as the kernel lists them. Source: `proc_pid_maps(5)`."""

from __future__ import annotations

from typing import NamedTuple

PAGE = 4096


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
    def is_anonymous(self) -> bool:
        """Neither a file nor something of the kernel's own, such as a stack."""
        return self.inode == 0 and (not self.name or self.name == "[heap]" or self.name.startswith("[anon"))


def of_this_process() -> list[Area]:
    """All of them, by address."""
    with open("/proc/self/maps") as maps:
        return [_area(line) for line in maps]


def _area(line: str) -> Area:
    addresses, mode, _offset, _device, inode, *name = line.split(None, 5)
    start, _, end = addresses.partition("-")
    return Area(int(start, 16), int(end, 16), mode, int(inode), name[0].strip() if name else "")
