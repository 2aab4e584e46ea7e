"""Waiting for results: `pool wait`, and RQ's own way, beside whichever worker runs the jobs."""

import json
import os
import subprocess
import threading

import pytest
from rq import Repeat, Retry

import jobs
from support import child
from support.monitor import Monitor, addresses_of
from support.wait import until
from support.worker import ROOT

BIN = os.environ.get('POOL_BIN', str(ROOT / 'target' / 'debug' / 'pool'))

pytestmark = pytest.mark.skipif(not os.path.exists(BIN), reason='pool is not built')


class Waiting:
    """A `pool wait` that runs."""

    def __init__(self, server, *arguments):
        self.process = child.start(
            [BIN, 'wait', '--broker', server.url, *arguments],
            env={**os.environ, 'POOL_RUNTIME': 'rq', 'XDG_RUNTIME_DIR': server.directory.name},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self):
        """Its next line."""
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def end(self, status=0):
        """Waits until it has ended; what is left of its output."""
        out, err = self.process.communicate(timeout=30)
        assert self.process.returncode == status, err
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def wait(server):
    started = []

    def start(*arguments):
        started.append(Waiting(server, *map(str, arguments)))
        return started[-1]

    yield start
    for waiting in started:
        waiting.process.kill()
        waiting.process.communicate()


def blocked(redis):
    """Clients that wait in a blocking read of streams."""
    return [client for client in redis.client_list() if client['cmd'].startswith('xread') and 'b' in client['flags']]


def until_blocked(redis, count=1):
    until(lambda: len(blocked(redis)) == count, 'a client waits')


def test_a_wait_ends_when_its_job_does(work, queue, redis, wait):
    job = queue.enqueue(jobs.hold)
    waiting = wait(job.id)
    until_blocked(redis)
    work.start()
    redis.rpush('gate', 'open')
    [line] = waiting.end()
    assert (line['id'], line['state']) == (job.id, 'finished')


def test_jobs_that_ended_long_ago_are_answered_at_once(work, queue, wait):
    good, bad = queue.enqueue(jobs.add, 1, 2), queue.enqueue(jobs.fail)
    work.burst()
    lines = {line['id']: line for line in wait(good.id, bad.id, 'no-such-job').end(status=1)}
    assert {id: line['state'] for id, line in lines.items()} == {
        good.id: 'finished',
        bad.id: 'dead',
        'no-such-job': 'unknown',
    }


def test_a_failure_wakes_and_a_retry_does_not(work, queue, redis, wait):
    job = queue.enqueue(jobs.fail, retry=Retry(max=2))
    waiting = wait(job.id)
    until_blocked(redis)
    work.burst()
    [line] = waiting.end(status=1)
    assert line['state'] == 'dead' and 'no luck' in line['error']['message']


def test_a_job_that_asks_to_be_run_again_has_not_ended(work, queue, redis, wait):
    job = queue.enqueue(jobs.ask_retry, 1)
    waiting = wait(job.id)
    until_blocked(redis)
    work.burst()
    [line] = waiting.end(status=1)
    assert redis.lrange('notes', 0, -1) == [b'asked', b'asked'] and line['state'] == 'dead'


def test_a_repeated_job_ends_with_its_last_run(work, queue, redis, wait):
    job = queue.enqueue(jobs.note, 'run', repeat=Repeat(times=2))
    waiting = wait(job.id)
    until_blocked(redis)
    work.burst()
    [line] = waiting.end()
    assert line['state'] == 'finished' and len(job.results()) == 3


def test_a_result_of_an_earlier_run_is_not_waited_for(work, queue, redis, wait):
    job = queue.enqueue(jobs.fail_until, 'runs', 2)
    work.burst()
    job.requeue()
    waiting = wait(job.id)
    until_blocked(redis)
    work.burst()
    assert [line['state'] for line in waiting.end()] == ['finished']


def test_a_wait_gives_up_when_its_time_is_up(queue, wait):
    job = queue.enqueue(jobs.add, 1)
    assert wait(job.id, '--timeout', '100ms').end(status=1) == []


def test_waiting_for_ten_jobs_takes_no_more_than_twelve_commands(server, work, queue, redis, wait):
    work.start(workers=2)
    enqueued = [queue.enqueue(jobs.hold, gate=f'gate{number}', result=number) for number in range(10)]
    with Monitor(server) as monitor:
        waiting = wait(*[job.id for job in enqueued])
        until_blocked(redis)
        addresses = addresses_of(waiting.process.pid)
        asked = asked_from(addresses, monitor)
        # One connection to look from, one to sleep on.
        assert len(addresses) == 2 and len(asked) <= 3, asked
        for number, job in enumerate(enqueued):
            redis.rpush(f'gate{number}', 'open')
            assert waiting.line()['id'] == job.id
            # Each but the last ends while the client sleeps.
            if number < 9:
                until_blocked(redis)
        waiting.end()
        asked = asked_from(addresses, monitor)
    assert len(asked) <= 12, ' '.join(command[:9] for command in asked)


def asked_from(addresses, monitor):
    """The commands that came from these addresses so far."""
    return [command for address, command in monitor.commands() if address in addresses]


def test_a_lost_connection_is_made_again(work, queue, redis, wait):
    job = queue.enqueue(jobs.add, 1, 2)
    waiting = wait(job.id)
    until_blocked(redis)
    [client] = blocked(redis)
    redis.client_kill_filter(_id=client['id'])
    until(lambda: [each['id'] for each in blocked(redis)] not in ([], [client['id']]), 'it waits again')
    work.burst()
    assert [line['state'] for line in waiting.end()] == ['finished']


def test_what_ended_while_the_connection_was_lost_is_seen(work, server, queue, redis, wait):
    job = queue.enqueue(jobs.add, 1, 2)
    waiting = wait(job.id)
    until_blocked(redis)
    redis.client_pause(timeout=500, all=False)
    [client] = blocked(redis)
    redis.client_kill_filter(_id=client['id'])
    work.burst()
    assert [line['state'] for line in waiting.end()] == ['finished']


@pytest.mark.parametrize('function, kind', [(jobs.hold, 'SUCCESSFUL'), (jobs.hold_and_fail, 'FAILED')])
def test_rq_itself_sleeps_until_the_result_is_there(server, work, queue, redis, function, kind):
    work.start()
    job = queue.enqueue(function)
    redis.blpop('entered')
    found = []
    with Monitor(server) as monitor:
        thread = threading.Thread(target=lambda: found.append(job.latest_result(timeout=60)))
        thread.start()
        until_blocked(redis)
        redis.rpush('gate', 'open')
        thread.join(timeout=60)
        reads = [command for _, command in monitor.commands() if f'rq:results:{job.id}' in command]
    assert found[0].type.name == kind
    reads = [read for read in reads if read.startswith(('XREAD', 'XREVRANGE', 'GET', 'HGET'))]
    assert len(reads) <= 2 and sum(read.startswith('XREAD ') for read in reads) == 1, reads
