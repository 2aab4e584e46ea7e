"""inotify(7), which the standard library does not have, through the C library."""

from __future__ import annotations

import ctypes
import os
import struct

_CLOSE_WRITE, _ATTRIB, _DELETE_SELF, _MOVE_SELF = 0x008, 0x004, 0x400, 0x800
#: Watch descriptor, mask, cookie, length of the name that follows.
_EVENT = struct.Struct("iIII")
_ROOM = 64 << 10

_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Becomes readable when somebody who had a file open for writing has closed it."""

    def __init__(self, path: str) -> None:
        self._path = os.fsencode(path)
        self.descriptor = self._call(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        try:
            self.add()
        except OSError:
            os.close(self.descriptor)
            raise

    def add(self) -> None:
        """Watches the file that has the name now."""
        events = _CLOSE_WRITE | _ATTRIB | _MOVE_SELF | _DELETE_SELF
        self._call(_libc.inotify_add_watch(self.descriptor, self._path, ctypes.c_uint32(events)))

    def take(self) -> bool:
        """Takes note of all events so far. Returns whether the file was removed or replaced."""
        moved = False
        while True:
            try:
                data = os.read(self.descriptor, _ROOM)
            except BlockingIOError:
                return moved
            at = 0
            while at < len(data):
                _, mask, _, name_len = _EVENT.unpack_from(data, at)
                moved |= mask != _CLOSE_WRITE
                at += _EVENT.size + name_len

    def close(self) -> None:
        """Ends it."""
        os.close(self.descriptor)

    def _call(self, answer: int) -> int:
        if answer < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), os.fsdecode(self._path))
        return answer
