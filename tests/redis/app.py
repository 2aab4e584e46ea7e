"""The application of the tests. Each job appends a line to the ledger: its name, the supervisor's life, its process."""

import os
import time

LEDGER, LIFE = os.environ["LEDGER"], os.environ["LIFE"]
_ledger = None


def mark(name):
    global _ledger
    if _ledger is None or _ledger[0] != os.getpid():
        _ledger = os.getpid(), os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_ledger[1], f"{name} {LIFE} {os.getpid()}\n".encode())


def nap(name, seconds):
    mark(name)
    time.sleep(seconds)


def hold(name, gate):
    """Until somebody opens this named pipe for writing."""
    mark(name)
    open(gate).close()


def fail(name):
    mark(name)
    raise ValueError("on purpose")


def succeeded(job, connection, result):
    """A success callback."""
