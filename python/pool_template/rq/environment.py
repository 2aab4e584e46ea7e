"""`RQ_WORKER_ID` and `RQ_JOB_ID`, as jobs and the programs that they start know them."""

from __future__ import annotations

import os
from typing import Optional

try:
    import ctypes
except ImportError:  # an interpreter built without libffi
    ctypes = None  # type: ignore[assignment]

_WORKER, _JOB = b"RQ_WORKER_ID", b"RQ_JOB_ID"
_LEN_MAX = 255


class Environment:
    """The variables that name the worker and its running job.

    `os.environ[...] = ...` for each job would lose memory: the C library keeps every value that it was
    ever given. So it is given buffers of ours, once (putenv(3)), and the names are written into them.
    """

    def __init__(self) -> None:
        self._values: Optional[dict[bytes, bytes]] = None
        values = getattr(os.environ, "_data", None)
        if ctypes is None or not isinstance(values, dict):
            return
        self._buffers = {name: ctypes.create_string_buffer(name + b"=" + bytes(_LEN_MAX)) for name in (_WORKER, _JOB)}
        put = ctypes.CDLL(None).putenv
        for name, buffer in self._buffers.items():
            os.environ[name.decode()] = ""  # Python's view has the key in its place
            if put(buffer) != 0 or name not in values:
                return
        rooms = {name: memoryview(buffer).cast("B")[len(name) + 1 :] for name, buffer in self._buffers.items()}
        self._values, self._worker_room, self._job_room = values, rooms[_WORKER], rooms[_JOB]

    def set_worker(self, name: str) -> None:
        """For the worker, whose name hardly ever changes."""
        encoded = name.encode()
        if self._values is None or len(encoded) >= _LEN_MAX:
            os.environ["RQ_WORKER_ID"] = name
            return
        self._values[_WORKER] = encoded
        self._worker_room[: len(encoded) + 1] = encoded + b"\0"

    def set_job(self, job: bytes) -> None:
        """For the job that begins now."""
        if self._values is None:
            os.environ["RQ_JOB_ID"] = job.decode()
            return
        self._values[_JOB] = job
        self._job_room[: len(job) + 1] = job + b"\0"
