"""`RQ_WORKER_ID` and `RQ_JOB_ID`, as jobs and the programs that they start know them."""

from __future__ import annotations

import os
from typing import Any, Optional

try:
    import ctypes
except ImportError:  # an interpreter built without libffi
    ctypes = None  # type: ignore[assignment]

_WORKER, _JOB = b"RQ_WORKER_ID", b"RQ_JOB_ID"
_LEN_MAX = 255


class _Variable:
    """One variable of the C library's environment, written in place."""

    def __init__(self, libc: Any, name: bytes) -> None:
        self.name = name
        self._put, self._get = libc.putenv, libc.getenv
        self._buffer = ctypes.create_string_buffer(name + b"=" + bytes(_LEN_MAX))
        self._room = memoryview(self._buffer).cast("B")[len(name) + 1 :]
        self._at = ctypes.addressof(self._buffer) + len(name) + 1

    def set(self, value: bytes) -> None:
        self._room[: len(value) + 1] = value + b"\0"
        # A job that restores `os.environ` as a whole, as `unittest.mock.patch.dict` does, leaves strings of the C
        # library's in its place.
        if self._get(self.name) != self._at and self._put(self._buffer) != 0:
            raise MemoryError


class Environment:
    """The variables that name the worker and its running job.

    `os.environ[...] = ...` for each job would lose memory: the C library keeps every value that it was
    ever given. So it is given buffers of ours (putenv(3)), and the names are written into them.
    """

    def __init__(self) -> None:
        #: What is behind `os.environ`. None: it is not as we know it.
        self._values: Optional[dict[bytes, bytes]] = None
        values = getattr(os.environ, "_data", None)
        if ctypes is None or not isinstance(values, dict):
            return
        libc = ctypes.CDLL(None)
        libc.getenv.restype = ctypes.c_void_p
        self._worker, self._job = _Variable(libc, _WORKER), _Variable(libc, _JOB)
        for variable in (self._worker, self._job):
            os.environ[variable.name.decode()] = ""  # Python's view has the key in its place
            if variable.name not in values:
                return
        self._values = values
        self.set_worker("")
        self.set_job(b"")

    def set_worker(self, name: str) -> None:
        """For the worker, whose name hardly ever changes."""
        encoded = name.encode()
        if self._is_known(encoded):
            self._values[_WORKER] = encoded
            self._worker.set(encoded)
        else:
            os.environ["RQ_WORKER_ID"] = name

    def set_job(self, job: bytes) -> None:
        """For the job that begins now."""
        if self._is_known(job):
            self._values[_JOB] = job
            self._job.set(job)
        else:
            os.environ["RQ_JOB_ID"] = job.decode()

    def _is_known(self, value: bytes) -> bool:
        """Whether `os.environ` is what it was, and the value fits."""
        values = self._values
        return values is not None and len(value) < _LEN_MAX and getattr(os.environ, "_data", None) is values
