"""Fixtures of the RQ conformance suite: one redis-server a session, emptied for each test."""

import os

import pytest
import rq
from rq import Queue

from support.cli import Client
from support.endpoint import hears_requests
from support.server import RedisServer
from support.worker import ROOT, TARGETS, Work

#: What these say of pool's own parts does not depend on the worker under test.
OUR_OWN = {'test_template.py', 'test_batches.py', 'test_sentinels.py', 'test_first_failure.py'}
DOCUMENTATION = ROOT / 'docs' / 'rq.md'


def pytest_addoption(parser):
    parser.addoption('--worker', choices=TARGETS, default='stock', help='the worker under test')
    parser.addoption('--slow', action='store_true', help='with stock RQ, run the slow tests, too')


def pytest_collection_modifyitems(config, items):
    documented = ' '.join(DOCUMENTATION.read_text().split())
    for item in items:
        for mark in item.iter_markers('differs'):
            if mark.args[0] not in documented:
                raise pytest.UsageError(f'{item.nodeid}: {DOCUMENTATION} does not say {mark.args[0]!r}')
            if config.getoption('--worker') == 'pool':
                item.add_marker(pytest.mark.skip(reason=f'docs/rq.md: {mark.args[0]}'))
    if config.getoption('--worker') == 'stock':
        ours = [item for item in items if item.path.name in OUR_OWN or item.get_closest_marker('pool')]
        config.hook.pytest_deselected(items=ours)
        items[:] = [item for item in items if item not in ours]
    skipped = {}
    if config.getoption('--worker') == 'stock' and not config.getoption('--slow'):
        skipped['slow'] = 'slow; run with --slow'
    if rq.VERSION.startswith('2.'):
        skipped['rq3'] = f'no rule of RQ {rq.VERSION}'
    for item in items:
        for mark, reason in skipped.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope='session')
def server():
    """A redis-server for this session; `jobs.py` finds it by the environment."""
    server = RedisServer()
    os.environ['SUITE_REDIS_URL'] = server.url
    yield server
    server.stop()


@pytest.fixture
def redis(server):
    """A client of the emptied server."""
    client = server.client()
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def target(request):
    """The worker under test."""
    return TARGETS[request.config.getoption('--worker')]


@pytest.fixture
def work(redis, server, target):
    """Starts workers under test: `work.burst(...)`, `work.start(...)`."""
    work = Work(target, server)
    yield work
    work.close()


@pytest.fixture
def queue(redis):
    """The queue `default`."""
    return Queue(connection=redis)


@pytest.fixture
def cli(redis, server):
    """Starts verbs of `pool`: `cli('wait', job.id)`."""
    started = []

    def start(*arguments):
        started.append(Client(server, *arguments))
        return started[-1]

    yield start
    for client in started:
        client.close()


@pytest.fixture
def endpoint():
    """An HTTP server that keeps what it was asked: `endpoint.url`, `endpoint.requests`."""
    with hears_requests() as endpoint:
        yield endpoint
