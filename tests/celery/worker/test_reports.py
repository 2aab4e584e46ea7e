"""What people report of stock workers, and what must not be true of a pool."""

import json
import os
import pickle
import signal
import uuid

import pytest

from support.wait import until
from worker.test_control import NODE, ask, heard, looked_at


def parent_of(pid):
    with open(f'/proc/{pid}/stat') as stat:
        return int(stat.read().rsplit(')', 1)[1].split()[1])


def test_term_to_all_processes_lets_running_tasks_end(alone):
    """As a service manager sends it to a whole control group."""
    side = alone('pool')
    process = side.start(workers=2)
    heard(side)
    running = [side.send('shop.sleeps', f'runs {number}', 1.5) for number in range(2)]
    until(lambda: side.runs('runs 0') and side.runs('runs 1'), 'they run')
    workers = ask(side, 'stats')[NODE]['pool']['processes']
    for pid in {process.pid, *workers, *map(parent_of, workers)}:
        os.kill(pid, signal.SIGTERM)
    assert process.wait(60) == 0
    assert [result.state for result in running] == ['SUCCESS', 'SUCCESS'], side.output()
    until(side.is_quiet, 'no message is left')


def test_a_rolling_restart_under_load_loses_and_doubles_nothing(alone):
    side = alone('pool')
    first = side.start(workers=2)
    results = [side.send('shop.sleeps', f'rolls {number}', 0.01) for number in range(200)]
    until(lambda: side.runs('rolls 5'), 'some run')
    side.start('-n', 'next@%h', workers=2, ready=False)
    first.terminate()
    assert first.wait(60) == 0, 'a warm stop ends'
    until(lambda: all(result.ready() for result in results), 'all end', 60)
    assert {side.runs(f'rolls {number}') for number in range(200)} == {1}
    until(side.is_quiet, 'no message is left')


def test_a_pool_that_shrinks_touches_no_busy_worker(alone):
    side = alone('pool')
    side.start(workers=2)
    heard(side)
    running = [side.send('shop.sleeps', f'busy {number}', 1.5) for number in range(2)]
    until(lambda: side.runs('busy 0') and side.runs('busy 1'), 'they run')
    ask(side, 'pool_shrink', {'n': 1})
    assert [result.get(timeout=30) for result in running] == ['busy 0', 'busy 1']
    looked_at(side, 'stats', lambda stats: len(stats['pool']['processes']) == 1)


@pytest.mark.over('redis')
def test_a_soft_limit_at_the_last_instant_costs_no_process(alone):
    """It strikes in the task, or not at all: never in what stores the result."""
    side = alone('pool')
    side.start(workers=2)
    heard(side)
    before = sorted(ask(side, 'stats')[NODE]['pool']['processes'])
    results = [side.send('shop.sleeps', 'last', 0.1, soft_time_limit=0.1 + number / 20000) for number in range(40)]
    until(lambda: all(result.ready() for result in results), 'all end')
    ends = {result.state if result.state == 'SUCCESS' else type(result.result).__name__ for result in results}
    assert ends <= {'SUCCESS', 'SoftTimeLimitExceeded'}, ends
    assert sorted(ask(side, 'stats')[NODE]['pool']['processes']) == before


@pytest.mark.over('redis')
def test_15000_etas_take_little_memory_and_delay_nothing(alone):
    side = alone('pool')
    process = side.start(workers=1)
    side.send('shop.add', 1, 2, queue='aside', countdown=3600)
    envelope = json.loads(side.redis.rpop('aside'))

    def memory():
        with open(f'/proc/{process.pid}/status') as status:
            return next(int(line.split()[1]) for line in status if line.startswith('VmRSS'))

    before = memory()
    with side.redis.pipeline(transaction=False) as pipe:
        for _ in range(15000):
            envelope['headers']['id'] = envelope['properties']['delivery_tag'] = str(uuid.uuid4())
            pipe.lpush('celery', json.dumps(envelope))
        pipe.execute()
    due = side.send('shop.add', 3, 4)
    assert due.get(timeout=120) == 7  # behind all of them
    until(lambda: side.redis.hlen('unacked') == 15000, 'all are held')
    assert memory() - before < 12 * 1024, 'KiB'
    assert side.stop() == [0]
    assert side.broker.waiting('celery') == 15000


#: Bodies and headers of messages that no producer of Celery's sends.
BAD = {
    'no JSON': {'body': b'{"'},
    'no list': {'body': b'5'},
    'another list': {'body': b'[1]'},
    'of wrong types': {'body': b'[5, [], 7]'},
    'unknown': {'headers': {'task': 'shop.nowhere'}},
    'without a name': {'headers': {'task': None}},
    'with a number for a name': {'headers': {'task': 17}},
    'a forbidden type': {'content_type': 'application/x-forbidden'},
    'a pickle that is none': {'content_type': 'application/x-python-serialize', 'body': b'no pickle'},
    'compressed by nobody': {'headers': {'compression': 'application/x-gzip'}},
    'expired': {'headers': {'expires': '2001-01-01T00:00:00+00:00'}},
    'an eta that is none': {'headers': {'eta': 'tomorrow'}},
    'long': {'body': json.dumps([['x' * 10_000_000], {}, {}]).encode(), 'headers': {'task': 'shop.text'}},
}


def test_bad_messages_never_stop_a_queue(alone):
    """Pickles of an application that accepts none, too."""
    side = alone('pool', {'accept_content': ['json']})
    side.start(workers=1)
    with side.app.connection_for_write() as connection, connection.Producer() as producer:
        for bad in BAD.values():
            task_id = str(uuid.uuid4())
            headers = {'lang': 'py', 'task': 'shop.add', 'id': task_id, **bad.get('headers', {})}
            options = {'content_type': 'application/json', 'content_encoding': 'utf-8', **bad}
            body, options = options.pop('body', b'[[1, 2], {}, {}]'), {**options, 'headers': headers}
            producer.publish(body, routing_key='celery', correlation_id=task_id, **options)
        body = pickle.dumps(([1, 2], {}, {}))
        headers = {'lang': 'py', 'task': 'shop.add', 'id': 'pickled'}
        kind = {'content_type': 'application/x-python-serialize', 'content_encoding': 'binary'}
        producer.publish(body, routing_key='celery', headers=headers, correlation_id='pickled', **kind)
        # Protocol 1: all is in the body.
        producer.publish({'task': 'shop.add', 'id': 'old', 'args': [3, 4], 'kwargs': {}}, routing_key='celery', serializer='json')
    assert side.send('shop.add', 5, 6).get(timeout=60) == 11
    assert side.app.AsyncResult('old').get(timeout=30) == 7
    if side.broker.transport == 'redis':  # what no stock worker can read is put aside
        unreadable = side.redis.lpop('pool_celery_unreadable', 5)
        assert len(unreadable) == 1 and b'tomorrow' in unreadable[0]
    until(side.is_quiet, 'no message is left')
    assert side.app.AsyncResult('pickled').state == 'PENDING'
