"""Where the time goes: processor seconds by process, and what the database's sessions are doing."""

import contextlib
import os
import threading
from collections import Counter

_TICK = os.sysconf("SC_CLK_TCK")
_SAMPLE_S = 0.05

_LOOK = """
SELECT state, wait_event FROM pg_stat_activity
WHERE backend_type = 'client backend' AND query LIKE '%INSERT INTO events%' AND pid <> pg_backend_pid()
"""
#: Waiting to write the log or for it to reach the disk, or for another session that does it for both.
_LOG_EVENTS = {"WALSync", "WALWrite", "WalSync", "WalWrite"}


def below(pid):
    """All processes that a process started, and those that they started."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as children:
                for child in map(int, children.read().split()):
                    found += [child, *below(child)]
    return found


def title(pid):
    """What `ps` shows of a process; nothing of one that has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/cmdline", encoding="utf-8") as line:
        return line.read().rstrip(".\0")
    return ""


def cpu_seconds(pids):
    """Processor time that these processes have used so far."""
    used = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            fields = stat.read().rpartition(")")[2].split()
            used += int(fields[11]) + int(fields[12])
    return used / _TICK


class Sessions:
    """Looks at the workers' database sessions 20 times a second, in a thread.

    A session computes, waits for the disk or a lock, or it waits for its client to say something: only then is the
    worker what is waited for.
    """

    def __init__(self, connect):
        self._connect = connect
        self._counts = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def shares(self):
        """Of the sessions' time: busy for their workers, and of all of it, waiting for the log to reach the disk."""
        total = sum(self._counts.values())
        if not total:
            return 0.0, 0.0
        return 1 - self._counts["client"] / total, self._counts["log"] / total

    def _run(self):
        with self._connect() as db:
            while not self._stop.wait(_SAMPLE_S):
                for state, event in db.execute(_LOOK).fetchall():
                    if state != "active" or event == "ClientRead":
                        self._counts["client"] += 1
                    elif event in _LOG_EVENTS:
                        self._counts["log"] += 1
                    else:
                        self._counts["work"] += 1
