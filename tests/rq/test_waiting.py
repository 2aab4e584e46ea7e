"""Waiting for results: `pool wait`, and RQ's own way, beside whichever worker runs the jobs."""

import threading
import time
from unittest.mock import ANY

import pytest
from rq import Repeat, Retry

import jobs
from support.app import entered
from support.cli import blocked, needs_pool, until_blocked
from support.monitor import Monitor, addresses_of
from support.wait import until

pytestmark = needs_pool


@pytest.fixture
def wait(cli):
    """Starts `pool wait`."""
    return lambda *arguments: cli('wait', *arguments)


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


def test_a_job_that_leaves_no_result_wakes_as_it_is_deleted(server, work, queue, redis, wait):
    silent, other = queue.enqueue(jobs.hold, result_ttl=0), queue.enqueue(jobs.hold, gate='other')
    waiting = wait(silent.id, other.id)
    until_blocked(redis)
    work.start()
    entered(redis)
    with Monitor(server) as monitor:
        until_at_rest(addresses_of(waiting.process.pid), monitor)
    redis.rpush('gate', 'open')
    assert waiting.line() == {'id': silent.id, 'state': 'unknown', 'error': ANY}
    redis.rpush('other', 'open')
    assert [line['state'] for line in waiting.end(status=1)] == ['finished']


def test_a_job_that_would_leave_no_result_can_fail(work, queue, redis, wait):
    job = queue.enqueue(jobs.fail, result_ttl=0)
    waiting = wait(job.id)
    until_blocked(redis)
    work.burst()
    assert [line['state'] for line in waiting.end(status=1)] == ['dead']


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


def until_at_rest(addresses, monitor):
    """Waits until nothing is asked from these addresses: what a worker wrote as its job began may still be read."""

    def rests():
        before = len(asked_from(addresses, monitor))
        time.sleep(0.2)
        return len(asked_from(addresses, monitor)) == before

    until(rests, 'the client only sleeps')


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
