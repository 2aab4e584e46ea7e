"""The tasks of the pool."""

import sink
from pool_job import batch


@batch(size=100, linger="50ms")
def insert(events):
    """Gets the events of up to `size` jobs in one call, and answers each of them."""
    sink.store(events)
    return [None] * len(events)


@batch(size=100, linger="50ms")
def discard(events):
    """Stores nothing: what the pool could do if the database cost no time."""
    return [None] * len(events)
