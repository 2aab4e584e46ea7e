"""The tasks of the RQ workers: stock and pool run the same."""

import time


def noop():
    return 1


def now():
    """When it runs: CLOCK_MONOTONIC is the same in all processes of a host."""
    return time.monotonic_ns()


def rest(seconds):
    """Takes so long."""
    time.sleep(seconds)
