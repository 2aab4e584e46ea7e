"""The bell: a file beside the database through which its processes hear of each other.

*Ringing* is opening it for writing and closing it, which inotify reports to all who watch. It is rung after a commit that
gave others something to see. Each process keeps it open for writing, so that its death rings as well.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import contextmanager
from typing import Iterator

from poolhouse.sqlite.inotify import Watch

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
#: Byte that is locked while the schema is made.
_SCHEMA_BYTE = 0


class Bell:
    """One process's hold on the bell of one database."""

    def __init__(self, database: str) -> None:
        self.path = f"{database}-bell"
        self._file = os.open(self.path, _FLAGS, 0o600)

    def ring(self) -> None:
        """Wakes all who watch."""
        os.close(os.open(self.path, _FLAGS, 0o600))

    def watch(self) -> Watch:
        """From here on, no ring is missed."""
        return Watch(self.path)

    def follow(self, watch: Watch) -> None:
        """Takes the file that has the name now; somebody removed or replaced the other one."""
        old, self._file = self._file, os.open(self.path, _FLAGS, 0o600)
        os.close(old)
        watch.add()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While it lasts, no other handle makes the schema; waits for its turn."""
        self._lock(fcntl.F_WRLCK)
        try:
            yield
        finally:
            self._lock(fcntl.F_UNLCK)

    def close(self) -> None:
        """Lets go of the file, which rings."""
        os.close(self._file)

    def _lock(self, kind: int) -> None:
        # Of the open file, not the process; struct flock of a 64-bit system.
        lock = struct.pack("hhqqi", kind, os.SEEK_SET, _SCHEMA_BYTE, 1, 0)
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLKW, lock)
