"""Fixtures: one redis-server a session, with a database for each side, emptied for each test."""

import gc

import celery
import pytest
from redis import Redis

from harness.pool import Pool
from harness.rabbit import RabbitServer, is_installed
from harness.stock import Stock
from support.server import RedisServer

#: Files that take longest begin first, so that no process is left with one of them at the end.
LONGEST = ('control', 'rabbitmq', 'verbs', 'events', 'ledger', 'cancel', 'flower', 'conformance', 'connections', 'faults', 'limits', 'idle')

RABBIT = pytest.StashKey[RabbitServer]()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """The order within a file stays: it has the tests over one transport together."""
    ranks = {f'test_{name}': rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (ranks.get(item.path.stem, len(ranks)), str(item.path)))


def pytest_configure_node(node):
    """The processes of a run share a RabbitMQ server. This one starts it beside them, and they wait for it."""
    stash = node.config.stash
    if RABBIT not in stash and is_installed():
        stash[RABBIT] = server = RabbitServer(is_launched=False)
        node.config.add_cleanup(server.stop)
        server.begin()
    node.workerinput['rabbit'] = stash[RABBIT].place() if RABBIT in stash else None


def pytest_runtest_setup(item):
    if item.get_closest_marker('celery57') and celery.VERSION < (5, 7):
        pytest.skip('a rule that Celery has since 5.7')


class Side:
    """A database, and a file in which the application notes what happens."""

    def __init__(self, server, number, directory):
        self.url = f'redis://127.0.0.1:{server.port}/{number}'
        self.redis = Redis.from_url(self.url)
        self.notes_file = directory / f'notes-{number}'
        self.notes_file.touch()

    def notes(self, *kinds):
        """What was noted, in its order: of these kinds, or of tasks."""
        lines = self.notes_file.read_text().splitlines()
        return [line for line in lines if (line.split()[0] in kinds if kinds else not line.startswith('worker_'))]

    def clear(self):
        self.redis.flushdb()
        self.notes_file.write_text('')


@pytest.fixture(scope='session')
def server():
    server = RedisServer()
    yield server
    gc.collect()  # results that nobody asked for tell their server so, and would wait for one that is gone
    server.stop()


@pytest.fixture(scope='session')
def sides(server, tmp_path_factory):
    directory = tmp_path_factory.mktemp('celery')
    return Side(server, 0, directory), Side(server, 1, directory)


@pytest.fixture(scope='session')
def shared_pool(sides):
    side = sides[0]
    pool = Pool(side.redis, side.url, side.notes_file)
    yield pool
    pool.close()


@pytest.fixture(scope='session')
def shared_stock(sides):
    side = sides[1]
    stock = Stock(side.redis, side.url, side.notes_file)
    yield stock
    stock.close()


@pytest.fixture
def side(sides):
    """The pool's database, empty."""
    sides[0].clear()
    return sides[0]


@pytest.fixture
def stock_side(sides):
    """The stock worker's database, empty."""
    sides[1].clear()
    return sides[1]


@pytest.fixture
def pool(shared_pool, side):
    """A worker of pool's."""
    shared_pool.worker
    return shared_pool


@pytest.fixture
def stock(shared_stock, stock_side):
    """A stock worker."""
    return shared_stock


@pytest.fixture
def start(side):
    """Starts another template: `start(fresh=True)`."""
    started = []

    def start(**options):
        started.append(Pool(side.redis, side.url, side.notes_file, **options))
        return started[-1]

    yield start
    for pool in started:
        pool.close()
