"""What `ps` shows of this process: its role, its pool and its state."""

from __future__ import annotations

import os
from typing import Optional

try:
    import ctypes
except ImportError:  # an interpreter built without libffi
    ctypes = None  # type: ignore[assignment]

IDLE, BUSY, FORKS = b"idle", b"busy", b"fork"


class Title:
    """The memory that the kernel shows as command line: where the arguments stood at the start.

    The template is started as `python -c PROGRAM`, and that program is longer than any title. Where
    the area can't be found, titles are left alone.
    """

    def __init__(self, area: Optional[memoryview]) -> None:
        self._area = area
        self._state = slice(0, 0)
        #: Bytes of the area that may be other than zero.
        self._used = 0 if area is None else len(area)

    @classmethod
    def claim(cls) -> Title:
        """Finds the area."""
        if ctypes is None:
            return cls(None)
        with open("/proc/self/stat", "rb") as file:
            values = file.read().rpartition(b")")[2].split()
        start, end, environment = (int(values[number - 3]) for number in (48, 49, 50))
        # The kernel reads up to the first zero only when the last byte is none, and environment follows.
        if not start < end == environment:
            return cls(None)
        area = (ctypes.c_ubyte * (end - start)).from_address(start)
        return cls(memoryview(area).cast("B"))

    def set(self, short: str, text: str, state: bytes = b"") -> None:
        """Shows `text` and, behind it, a state word, which `set_state` can change.

        `short` is for `top` and the kernel's log, which show 15 bytes.
        """
        _set_short_name(short)
        if self._area is None:
            return
        title = text.encode("utf-8", "replace")[: len(self._area) - len(state) - 3]
        if state:
            title += b" "
            self._state = slice(len(title), len(title) + len(state))
        shown = (title + state).ljust(self._used, b"\0")
        self._area[: len(shown)] = shown
        self._used = len(title) + len(state)
        self._area[-1:] = b"."

    def set_state(self, state: bytes) -> None:
        """Changes the state word; a few stores, no system call."""
        if self._area is not None:
            self._area[self._state] = state


def _set_short_name(name: str) -> None:
    try:
        # Not `open`: its three layers of objects would be a tenth of what a worker costs.
        comm = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
        os.write(comm, name.encode("utf-8", "replace"))
        os.close(comm)
    except OSError:
        pass  # a title is no reason to fail
