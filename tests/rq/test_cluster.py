"""Redis Cluster: all keys are in one slot by the hash tag of their prefix, and the URL names the node that has it."""

import os
import subprocess

import pytest

from support.server import RedisServer, free_port
from support.wait import until
from support.worker import APP, BIN, Work

SLOTS = 16384
PREFIX = '{acme}'

pytestmark = pytest.mark.rq3


class Node(RedisServer):
    """Of a cluster; it has these slots."""

    def __init__(self, first, last):
        super().__init__('--cluster-enabled', 'yes', '--cluster-port', str(free_port()))
        with self.client() as client:
            client.execute_command('CLUSTER', 'ADDSLOTSRANGE', first, last)


@pytest.fixture(scope='module')
def nodes():
    """Two nodes: the one that has the slot of the prefix, and the other one."""
    both = [Node(0, SLOTS // 2 - 1), Node(SLOTS // 2, SLOTS - 1)]
    with both[0].client() as client:
        bus = both[1].client().config_get('cluster-port')['cluster-port']
        client.execute_command('CLUSTER', 'MEET', '127.0.0.1', both[1].port, bus)
        slot = client.execute_command('CLUSTER', 'KEYSLOT', PREFIX)

    def agree(node):
        with node.client() as client:
            return b'cluster_state:ok' in raw(client.execute_command('CLUSTER', 'INFO'))

    until(lambda: all(agree(node) for node in both), 'the nodes are a cluster')
    yield both if slot < SLOTS // 2 else both[::-1]
    for node in both:
        node.stop()


def raw(answer):
    return answer if isinstance(answer, bytes) else str(answer).encode()


@pytest.fixture
def on(target):
    """Workers on this server."""
    started = []

    def start(server):
        started.append(Work(target, server))
        return started[-1]

    yield start
    for work in started:
        work.close()


def enqueue(node, name, *words):
    env = {**os.environ, 'PYTHONPATH': str(APP), 'RQ_KEY_PREFIX': PREFIX}
    command = [str(BIN / 'rq'), 'enqueue', '--url', node.url, '--job-id', name, *words]
    subprocess.run(command, env=env, check=True, timeout=60)


def test_jobs_run_on_the_node_that_has_the_slot_of_the_prefix(nodes, on):
    node, _ = nodes
    enqueue(node, 'one', 'jobs.add', ':1', ':2')
    enqueue(node, 'two', 'jobs.fail')
    on(node).burst(name='web', env={'RQ_KEY_PREFIX': PREFIX})
    with node.client() as client:
        assert client.hget(f'{PREFIX}:job:one', 'status') == b'finished'
        assert client.hget(f'{PREFIX}:job:two', 'status') == b'failed'
        assert client.zscore(f'{PREFIX}:finished:default', 'one')
        assert client.hget(f'{PREFIX}:worker:web', 'successful_job_count') == b'1'


@pytest.mark.pool
def test_an_idle_pool_is_woken_and_stops_cleanly(nodes, on):
    node, _ = nodes
    running = on(node).launch(env={'RQ_KEY_PREFIX': PREFIX}, name='idle', with_scheduler=True, recover=3)
    with node.client() as client:
        until(lambda: client.exists(f'{PREFIX}:worker:idle'), 'the worker is shown')
        enqueue(node, 'three', 'jobs.add', ':1', ':2')
        until(lambda: client.hget(f'{PREFIX}:job:three', 'status') == b'finished', 'the job has run')
    running.stop()


@pytest.mark.pool
@pytest.mark.parametrize('env, which, said', [
    ({}, 0, 'set `rq.key_prefix`, and RQ_KEY_PREFIX of all producers, to a name with a hash tag, such as `{rq}`'),
    ({'RQ_KEY_PREFIX': PREFIX}, 1, 'is on another node of the cluster: 127.0.0.1:'),
], ids=['without-a-tag', 'another-node'])  # fmt: skip
def test_what_can_not_work_is_refused_with_the_reason(nodes, on, env, which, said):
    output = on(nodes[which]).launch(env=env).wait(status=None)
    assert said in ' '.join(output.split()), output
