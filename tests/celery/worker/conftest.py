"""Fixtures of the conformance suite: a stock worker and a pool, on databases of their own."""

import gc

import pytest

from support.server import RedisServer
from worker.sides import Side


@pytest.fixture(scope='session')
def worker_server():
    server = RedisServer()
    yield server
    gc.collect()  # results that nobody asked for tell their server so, and would wait for one that is gone
    server.stop()


@pytest.fixture(scope='session')
def both_running(worker_server):
    """One of each, started together."""
    sides = [Side('stock', worker_server, 0), Side('pool', worker_server, 1)]
    try:
        for side in sides:
            side.start('-Q', 'celery,mail')
        yield sides
    finally:
        for side in sides:
            side.close()


@pytest.fixture
def both(both_running):
    """A stock worker and a pool, with nothing left of the test before."""
    for side in both_running:
        side.clear()
    return both_running


@pytest.fixture
def alone(worker_server):
    """Starts sides on an empty database: `alone('pool', conf={…})`."""
    started = []

    def make(kind, conf=None):
        side = Side(kind, worker_server, 2 + len(started), conf)
        side.redis.flushdb()
        side.ledger.flushdb()
        started.append(side)
        return side

    yield make
    for side in started:
        side.close()
