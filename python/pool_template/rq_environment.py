"""`RQ_WORKER_ID` and `RQ_JOB_ID`, as jobs and the programs that they start know them."""

from __future__ import annotations

import os
from typing import Any, Optional

try:
    import ctypes
except ImportError:  # an interpreter built without libffi
    ctypes = None  # type: ignore[assignment]

_NAME = b"RQ_JOB_ID"
_JOB_ID_LEN_MAX = 255


class Environment:
    """The variable that names the running job.

    `os.environ[...] = ...` for each job would lose memory: the C library keeps every value that it was
    ever given. So it is given a buffer of ours, once (putenv(3)), and the id is written into it.
    """

    def __init__(self) -> None:
        self._values: Optional[dict[bytes, bytes]] = None
        values = getattr(os.environ, "_data", None)
        if ctypes is None or not isinstance(values, dict):
            return
        os.environ["RQ_JOB_ID"] = ""  # Python's view has the key in its place
        self._buffer: Any = ctypes.create_string_buffer(_NAME + b"=" + bytes(_JOB_ID_LEN_MAX))
        if ctypes.CDLL(None).putenv(self._buffer) == 0 and _NAME in values:
            self._values = values
            self._room = memoryview(self._buffer).cast("B")[len(_NAME) + 1 :]

    def set_worker(self, name: str) -> None:
        """For the worker, whose name hardly ever changes."""
        os.environ["RQ_WORKER_ID"] = name

    def set_job(self, job: bytes) -> None:
        """For the job that begins now."""
        if self._values is None:
            os.environ["RQ_JOB_ID"] = job.decode()
            return
        self._values[_NAME] = job
        self._room[: len(job) + 1] = job + b"\0"
