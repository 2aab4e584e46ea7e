"""How workers of the pool find their server when Sentinels are dead: the tests ask as the template's workers do."""

import os
import socket
import sys
from pathlib import Path

import pytest
from redis.sentinel import MasterNotFoundError

from support.server import Sentinel, free_port

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / 'python')]

from pool_template.rq import code as rq_code  # noqa: E402
from pool_template.rq import sentinel as rq_sentinel  # noqa: E402
from pool_template.rq.settings import RqSettings  # noqa: E402


@pytest.fixture
def sentinel(server):
    """Starts Sentinels that know the server of these tests."""
    started = []

    def start():
        started.append(Sentinel(server))
        return started[-1]

    yield start
    for sentinel in started:
        sentinel.stop()


@pytest.fixture
def listener():
    """Listens on a port and takes in so many connections; nobody answers there."""
    opened = []

    def listen(backlog):
        opened.append(socket.create_server(('127.0.0.1', 0), backlog=backlog))
        opened[-1].setblocking(False)
        return opened[-1]

    yield listen
    for each in opened:
        each.close()


@pytest.fixture
def asked(monkeypatch):
    """The ports to which connections were made that somebody waits for."""
    ports, connect = [], socket.socket.connect

    def note(self, address):
        ports.append(address[1])
        return connect(self, address)

    monkeypatch.setattr(socket.socket, 'connect', note)
    return ports


def template(*ports):
    """What a template knows of RQ where Sentinels are listed in this order."""
    sentinel = {'hosts': [('127.0.0.1', port) for port in ports], 'service': 'main'}
    return rq_code.RqCode(RqSettings.from_message({'url': 'redis://localhost/0', 'sentinel': sentinel}))


def a_worker_connects(template):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if template.connect().ping() else 1
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def connections(listener):
    """How many connections it was asked for since the last call."""
    count = 0
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def test_a_sentinel_that_refuses_is_not_waited_for(server, sentinel, asked):
    alive = sentinel()
    assert template(free_port(), alive.port).connect().ping()
    assert set(asked) == {alive.port, server.port}


def test_a_sentinel_whose_host_is_down_is_not_waited_for(server, sentinel, listener, asked):
    silent, alive = listener(0).getsockname(), sentinel()
    with socket.create_connection(silent):  # no room for more: the kernel leaves others without an answer
        assert template(silent[1], alive.port).connect().ping()
        assert {*asked} - {silent[1]} == {alive.port, server.port}
        assert asked.count(silent[1]) == 1, 'but for the connection of the test'


def test_a_sentinel_that_hangs_is_waited_for_by_one_worker_alone(sentinel, listener, monkeypatch):
    monkeypatch.setattr(rq_sentinel, '_LIMIT_S', 1.0)
    hanging, alive = listener(50), sentinel()
    code = template(hanging.getsockname()[1], alive.port)
    assert a_worker_connects(code)
    assert connections(hanging) in (1, 2), 'a look whether it is there, and a question'
    assert a_worker_connects(code) and a_worker_connects(code)
    assert connections(hanging) == 0


def test_the_sentinel_that_answered_may_die(sentinel):
    one, another = sentinel(), sentinel()
    code = template(one.port, another.port)
    for dead in (None, one):
        if dead:
            dead.stop()
        assert a_worker_connects(code)


def test_that_there_is_no_sentinel_is_told(monkeypatch):
    monkeypatch.setattr(rq_code, '_RETRIES', 0)
    with pytest.raises(MasterNotFoundError, match='none of the Sentinels .* takes a connection'):
        template(free_port()).connect().ping()
