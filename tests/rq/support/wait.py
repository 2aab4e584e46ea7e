"""Waiting for an event with a deadline; never for a length of time."""

import time

DEADLINE = 30.0


def until(condition, what, deadline=DEADLINE):
    """Returns the first truthy value of `condition()`; fails with `what` after `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f'{what}: not within {deadline:g} s')
        time.sleep(0.01)
