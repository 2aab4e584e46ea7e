"""Fixtures of the conformance suite: a stock worker and a pool, each with a broker of its own, over each transport.

A test that takes `both` or `alone` runs over Redis and over RabbitMQ; marked `over('redis')`, over that one alone.
"""

import gc

import pytest

from harness.rabbit import Rabbit, RabbitServer
from support.server import RedisServer
from worker.brokers import RabbitBroker, RedisBroker
from worker.sides import Side

TRANSPORTS = ('redis', 'rabbitmq')


def pytest_collection_modifyitems(config, items):
    """Leaves out what is not to run over a transport."""
    left_out = [item for item in items if not _is_wanted(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _is_wanted(item):
    marker, call = item.get_closest_marker('over'), getattr(item, 'callspec', None)
    return marker is None or call is None or call.params.get('transport') in marker.args


@pytest.fixture(scope='session')
def worker_server():
    """Where results are, and what tasks counted; and the queues of those over Redis."""
    server = RedisServer()
    yield server
    gc.collect()  # results that nobody asked for tell their server so, and would wait for one that is gone
    server.stop()


@pytest.fixture(scope='session')
def rabbit(request):
    """One for all processes of a run: to start it costs more than most files of tests."""
    place = getattr(request.config, 'workerinput', {}).get('rabbit')
    if place:
        server = Rabbit(**place)
        server.wait()
        yield server
    else:
        server = RabbitServer()
        yield server
        server.stop()


@pytest.fixture(scope='session', params=TRANSPORTS)
def transport(request):
    return request.param


@pytest.fixture(scope='session')
def new_side(transport, worker_server, request):
    """Makes sides with an empty broker: `new_side('pool', 3, conf={…})`, where 3 is the number of the database."""

    def make(kind, database, conf=None):
        if transport == 'redis':
            broker = RedisBroker(worker_server, database)
        else:
            broker = RabbitBroker(request.getfixturevalue('rabbit'))
        return Side(kind, broker, worker_server, database, conf)

    return make


@pytest.fixture(scope='session')
def both_running(new_side):
    """One of each, started together."""
    sides = [new_side('stock', 0), new_side('pool', 1)]
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
def alone(new_side):
    """Starts sides with an empty broker: `alone('pool', conf={…})`."""
    started = []

    def make(kind, conf=None):
        started.append(new_side(kind, 2 + len(started), conf))
        return started[-1]

    yield make
    for side in started:
        side.close()
