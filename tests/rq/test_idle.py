"""What a pool and its clients ask of Redis while nothing happens: the heartbeats of its workers, and nothing else."""

import re
from urllib.request import urlopen

import pytest

import jobs
from support.cli import blocked, needs_pool, until_blocked
from support.monitor import Monitor, addresses_of
from support.wait import until

pytestmark = needs_pool


def heartbeats(redis):
    return [redis.hget(key, 'last_heartbeat') for key in redis.smembers('rq:workers')]


def until_they_beat(redis, times):
    """So many heartbeats later."""
    for _ in range(times):
        before = heartbeats(redis)
        until(lambda: len(before) == 2 and not set(before) & set(heartbeats(redis)), 'both workers beat')


def test_an_idle_pool_sends_heartbeats_and_asks_nothing(server, work, queue, redis, target):
    if target.name != 'pool':
        pytest.skip('RQ asks more')
    # A heartbeat each second, and several scaling periods between them.
    running = work.start('default', 'other', workers=2, worker_ttl=3, scaling_period='100ms')
    assert queue.enqueue(jobs.add, 1, 2).latest_result(timeout=30).return_value == 3
    until_they_beat(redis, 2)
    with Monitor(server) as monitor:
        until_they_beat(redis, 3)
        addresses = addresses_of(running.processes[0].pid)
        asked = [command for address, command in monitor.commands() if address in addresses]
    # Once a minute each queue's blocking read is asked again, and with it the claim that stands behind it.
    of_queues = re.compile(r'BLMOVE |EVALSHA \w+ 0 rq (default|other) ')
    asked = [command for command in asked if not of_queues.match(command)]
    # One script call for all workers, which names each of them.
    assert 3 <= len(asked) <= 5, asked
    assert all(command.startswith('EVALSHA') and '.1 ' in command and '.2 ' in command for command in asked), asked


def test_reading_the_metrics_of_an_idle_pool_asks_nothing(server, work, queue, redis, target):
    if target.name != 'pool':
        pytest.skip('RQ has none')
    running = work.start('default', worker_ttl=600, scaling_period='100ms', metrics_listen='127.0.0.1:0')
    url = re.search(r'serving metrics and health url=(\S+)', running.output())[1]
    assert queue.enqueue(jobs.add, 1, 2).latest_result(timeout=30).return_value == 3
    done = 'pool_jobs_ended_total{pool="default",task="jobs.add",outcome="done"} 1'
    until(lambda: done in urlopen(url, timeout=30).read().decode(), 'the job is counted')

    def asked():
        """What the pool asks while it is read twenty times."""
        with Monitor(server) as monitor:
            for _ in range(20):
                assert done in urlopen(url, timeout=30).read().decode()
            addresses = addresses_of(running.processes[0].pid)
            assert addresses
            return [command for address, command in monitor.commands() if address in addresses]

    # The first time it may not be idle yet.
    until(lambda: asked() == [], 'it asks nothing')


def test_an_idle_wait_asks_nothing(server, work, queue, redis, cli):
    job = queue.enqueue(jobs.add, 1, 2)
    waiting = cli('wait', job.id)
    until_blocked(redis)
    [sleeper] = blocked(redis)
    with Monitor(server) as monitor:
        work.burst('other')
        addresses = addresses_of(waiting.process.pid)
        assert addresses and [command for address, command in monitor.commands() if address in addresses] == []
    assert [each['id'] for each in blocked(redis)] == [sleeper['id']]
    work.burst()
    assert [line['state'] for line in waiting.end()] == ['finished']
