"""Standard output and error: whole lines, flushed where it matters."""

from __future__ import annotations

import sys


def make_line_buffered() -> None:
    """A line goes out when it ends, also to a pipe."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True)


def flush() -> None:
    """Writes out what was printed. A stream that a job closed or replaced by something odd does no harm."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
