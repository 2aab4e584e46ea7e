"""Makes `pool_job` importable in processes that a job starts anew by `multiprocessing` (spawn, forkserver).

Such a process gets the worker's module path, but not the importer that carries our modules; and it imports the
application's modules, which may import `pool_job`. So the path ends with a zip file of that one module. It is in
memory, under the name that the kernel has for a descriptor of the worker.
"""

from __future__ import annotations

import binascii
import os
import struct
import sys
from typing import Optional

import pool_job


def make() -> Optional[int]:
    """The file's descriptor; None where there are no files in memory."""
    try:
        descriptor = os.memfd_create("pool_job")
    except (AttributeError, OSError):
        return None
    os.write(descriptor, _zip(b"pool_job.py", pool_job.__loader__.get_source("pool_job").encode()))
    return descriptor


def put_on_path(descriptor: Optional[int]) -> None:
    """Called in each worker: the name holds its process id."""
    if descriptor is not None:
        sys.path.append(f"/proc/{os.getpid()}/fd/{descriptor}")


def _zip(name: bytes, content: bytes) -> bytes:
    """A zip file with one file, not compressed. Source: PKWARE APPNOTE.TXT, 4.3."""
    made_by, needed, flags, stored, at_time, on_day = 20, 20, 0, 0, 0, 0x21  # 1980-01-01
    crc, size = binascii.crc32(content), len(content)
    common = struct.pack("<5H3I2H", needed, flags, stored, at_time, on_day, crc, size, size, len(name), 0)
    local = b"PK\3\4" + common + name + content
    directory = b"PK\1\2" + struct.pack("<H", made_by) + common + struct.pack("<3H2I", 0, 0, 0, 0, 0) + name
    end = b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 1, 1, len(directory), len(local), 0)
    return local + directory + end
