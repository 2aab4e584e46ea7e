"""`pool cancel` and `pool stop-job` on tasks of stock workers and of pools; `pool queues`."""

import json
import subprocess

import pytest

from support.wait import until
from worker.sides import APP, POOL


def verb(side, *words):
    """A verb that loads the application itself, whoever serves it."""
    command = [POOL, *words, '--broker', 'app:shop', '--socket', '/nowhere.sock']
    env = {**side.environment(), 'POOL_PYTHON': side.python()}
    return subprocess.run(command, env=env, cwd=str(APP), capture_output=True, text=True, timeout=60)


# An older stock worker does not tell `query_task` of what waits for its time.
@pytest.mark.parametrize('kind', [pytest.param('stock', marks=pytest.mark.celery57), 'pool'])
def test_a_worker_hears_what_is_canceled_and_stopped(alone, kind):
    side = alone(kind)
    side.start('--prefetch-multiplier', '4', workers=1)
    runs = side.send('shop.sleeps', 'runs', 60)
    until(lambda: side.runs('runs'), 'it runs')
    later = side.send('shop.sleeps', 'later', 0, countdown=50)
    until(lambda: not side.broker.waiting('celery'), 'it is in the hands of the worker')
    waits = side.send('shop.sleeps', 'waits', 0)

    canceled = verb(side, 'cancel', runs.id, waits.id, later.id)
    assert canceled.returncode == 1, canceled
    assert f'1 job runs on (`pool stop-job` stops it): {runs.id}' in canceled.stdout
    # One that the pool has no room for, or gave back after a second, is canceled in its queue.
    assert any(words in canceled.stdout for words in (
        '2 jobs in the hands of a supervisor: canceled if not begun',
        'canceled 1 job\n1 job in the hands of a supervisor: canceled if not begun',
    )), canceled
    stopped = verb(side, 'stop-job', runs.id)
    assert (stopped.returncode, stopped.stdout) == (0, '1 job being stopped\n'), stopped

    until(lambda: [task.state for task in (runs, waits, later)] == ['REVOKED'] * 3, 'all three are revoked')
    assert [str(task.result) for task in (runs, waits, later)] == ['terminated', 'revoked', 'revoked']
    side.send('shop.add', 1, 2).get(timeout=30)
    assert (side.runs('waits'), side.runs('later')) == (0, 0)
    assert verb(side, 'cancel', waits.id).stdout == f'1 job had ended: {waits.id}\n'


@pytest.mark.over('redis')
def test_a_task_that_waits_is_taken_out_of_its_queue(alone):
    """Whether a worker listens or not."""
    side = alone('pool')
    plain, urgent, stays = (side.send('shop.sleeps', 'no', 0, priority=priority) for priority in (0, 9, 5))
    chord = side.app.signature('shop.total', options={'task_id': 'total'})
    part = side.send('shop.add', 1, 2, chord=chord)
    canceled = verb(side, 'cancel', plain.id, urgent.id, 'none')
    assert (canceled.returncode, canceled.stdout) == (1, 'canceled 2 jobs\n1 job unknown: none\n'), canceled
    assert [task.state for task in (plain, urgent, stays)] == ['REVOKED', 'REVOKED', 'PENDING']
    assert str(plain.result) == 'revoked' and side.broker.waiting('celery') == 1
    listed = verb(side, 'jobs', '--state', 'canceled', '--json').stdout.splitlines()
    assert {json.loads(line)['id'] for line in listed} == {plain.id, urgent.id}
    # A chord counts its parts: a worker has to end them.
    refused = verb(side, 'cancel', part.id)
    assert refused.returncode == 1 and 'no worker answers' in refused.stdout, refused
    by_conditions = verb(side, 'cancel', '--task', 'shop.sleeps', '--yes')
    assert by_conditions.stdout == 'canceled 1 job\n', by_conditions
    assert stays.state == 'REVOKED' and side.runs('no') == 0


@pytest.mark.over('rabbitmq')
def test_where_nobody_listens_and_nothing_can_be_seen_it_says_so(alone):
    side = alone('pool')
    waits = side.send('shop.sleeps', 'waits', 0)
    refused = verb(side, 'cancel', waits.id)
    assert refused.returncode == 1 and 'no worker answers' in refused.stdout, refused


def test_a_queue_that_nobody_serves_is_seen(alone):
    side = alone('stock')
    side.start('-Q', 'mail,celery')
    side.send('shop.add', 1, 2, queue='hihg', priority=9)
    listed = verb(side, 'queues', '--json').stdout.splitlines()
    served = {row['queue']: (row['waiting'], row['served_by']) for row in map(json.loads, listed)}
    assert served['mail'] == (0, 'others'), served
    if side.broker.transport == 'redis':
        assert served['hihg'] == (1, 'nobody'), served
        waiting = verb(side, 'jobs', '--state', 'waiting', '--json').stdout.splitlines()
        assert [json.loads(line)['queue'] for line in waiting] == ['hihg']


def test_a_pool_whose_workers_are_all_busy_serves_its_queues(alone):
    """Over RabbitMQ it has no consumer then."""
    side = alone('pool')
    side.start(workers=1)
    side.send('shop.sleeps', 'busy', 60)
    until(lambda: side.runs('busy'), 'it runs')
    side.send('shop.sleeps', 'waits', 0)
    if side.broker.transport == 'rabbitmq':
        with side.app.connection_for_read() as connection:
            queue = connection.default_channel.queue_declare
            until(lambda: queue('celery', passive=True).consumer_count == 0, 'what waits went back')
    rows = [json.loads(line) for line in verb(side, 'queues', '--json').stdout.splitlines()]
    assert {row['queue']: row['served_by'] for row in rows}['celery'] == 'others', rows
    enqueued = verb(side, 'enqueue', 'shop.add', '[1, 2]')
    assert (enqueued.returncode, enqueued.stderr) == (0, ''), enqueued
