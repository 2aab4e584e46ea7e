"""Waiting for an event with a deadline; never for a length of time."""

import time

DEADLINE = 30.0


def until(condition, what, deadline=DEADLINE):
    """Returns the first truthy value of `condition()`; fails with `what` after `deadline` seconds."""
    begin = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        waited = time.monotonic() - begin
        if waited > deadline:
            raise AssertionError(f'{what}: not within {deadline:g} s')
        # To ask costs processor time, which what is waited for needs, too: the longer it takes, the less often.
        time.sleep(min(0.01 + waited / 20, 0.1))
