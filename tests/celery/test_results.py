"""Each kind of task leaves what it leaves with a stock worker, captured or not."""

import json
import subprocess
from pathlib import Path

import celery
import pytest
from celery import chord
from redis import Redis
from support import child
from support.server import free_port
from support.wait import until

from harness import messages
from harness.results import stored

ID = '11111111-1111-4111-8111-111111111111'
#: What the stock worker left of each, asked once.
STOCK = {}
#: Task, arguments, options.
TASKS = [
    ('proj.add', (1, 2), {}),
    ('proj.add', ('é☃', '"\\'), {}),
    ('proj.add', (1,), {}),
    ('proj.add', ([1, {'a': None}], [2.5]), {'group_id': 'the-group', 'group_index': 3}),
    ('proj.add', (1, 2), {'parent_id': 'the-parent', 'root_id': 'the-root'}),
    ('proj.add', (1, 2), {'ignore_result': True}),
    ('proj.add', (1, 2), {'compression': 'gzip'}),
    ('proj.add', (1, 2), {'serializer': 'yaml'}),
    ('proj.add', (1, 2), {'shadow': 'another.name', 'headers': {'x-mine': 'yes'}}),
    ('proj.describe', (), {'headers': {'x-mine': 'yes'}}),
    ('proj.quiet', (), {'ignore_result': None}),
    ('proj.quiet_failure', (), {'ignore_result': None}),
    ('proj.boom', (), {}),
    ('proj.boom', (), {'ignore_result': True}),
    ('proj.boom_late', (), {}),
    ('proj.again', (), {}),
    ('proj.again', (), {'retries': 3}),
    ('proj.ignored', (), {}),
    ('proj.rejected', (False,), {}),
    ('proj.no_json', (), {}),
    ('proj.progress', (), {}),
    ('proj.patient', (), {}),
    ('proj.stubborn', (), {}),
    ('proj.leave', (3,), {}),
    ('proj.noted', (), {}),
    ('proj.noted', (True,), {}),
    ('proj.own_request', (False,), {}),
    ('proj.own_request', (True,), {}),
    ('proj.big', (300_000,), {}),
    ('proj.raises_lost', (), {}),
    ('no.such.task', (), {}),
]


@pytest.mark.parametrize('kind', [messages.TASK, messages.WHOLE], ids=['task', 'whole'])
@pytest.mark.parametrize('task, args, options', TASKS, ids=lambda value: str(value)[:40])
def test_a_task_leaves_what_it_leaves_with_a_stock_worker(pool, stock, side, stock_side, task, args, options, kind):
    if task == 'proj.leave' and celery.VERSION < (5, 7):
        pytest.skip('nothing is stored before Celery 5.7')
    options = {'task_id': ID, 'expires': None, **options}
    pool.send(task, *args, kind=kind, **options)
    case = repr((task, args, options))
    if case not in STOCK:
        stock.send(task, *args, **options)
        STOCK[case] = stored(stock_side.redis, ID), stock_side.notes()
    assert (stored(side.redis, ID), side.notes()) == STOCK[case]


@pytest.mark.parametrize(
    'options',
    [
        {'link': ('proj.add', (10,))},
        {'link_error': ('proj.on_error', ())},
        {'chain': [('proj.add', (10,))]},
    ],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize('task', ['proj.add', 'proj.boom'])
def test_what_follows_a_task_follows_it_here_too(pool, stock, side, stock_side, task, options):
    args = (1, 2) if task == 'proj.add' else ()
    for worker in (pool, stock):
        made = {}
        for name, value in options.items():
            if name == 'chain':
                made[name] = [worker.app.signature(*each, task_id='next') for each in value]
            else:
                made[name] = [worker.app.signature(value[0], value[1], task_id='next')]
        worker.send(task, *args, task_id=ID, **made)
    for follower in range(side.redis.llen('celery')):
        pool.run(messages.taken(side.redis))
    stock.settle()
    assert stored(side.redis, ID) == stored(stock_side.redis, ID)
    assert stored(side.redis, 'next') == stored(stock_side.redis, 'next')
    assert side.notes() == stock_side.notes()


def test_a_chord_is_joined_by_its_last_part(pool, stock, side, stock_side):
    for worker, url in ((pool, side.url), (stock, stock_side.url)):
        app = messages.producer(url, url)
        parts = [app.signature('proj.add', (n, n), task_id=f'part-{n}') for n in range(2)]
        body = app.signature('proj.add', ([100],), task_id='body')
        chord(parts, app=app)(body, group_id='the-group')
        app.close()
        if worker is pool:
            for _ in range(3):
                pool.run(messages.taken(side.redis))
        else:
            stock.settle()
            stock.settle()
    assert stored(side.redis, 'body') == stored(stock_side.redis, 'body')
    assert stored(side.redis, 'body')[0][1] == ('result', [0, 2, 100])


def test_a_success_is_kept_back_and_whole_tasks_are_not(pool):
    assert pool.send('proj.add', 1, 2).store['key'].startswith('celery-task-meta-')
    assert pool.send('proj.boom').store['expires'] == 3600
    assert pool.send('proj.add', 1, 2, kind=messages.WHOLE).store is None


def test_the_traceback_of_a_result_that_is_no_json_shows_celerys_try_alone(pool, side):
    pool.send('proj.no_json', task_id=ID)
    kept = json.loads(side.redis.get(f'celery-task-meta-{ID}'))
    assert 'is not JSON serializable' in kept['traceback']
    assert '_encode(result)' not in kept['traceback']


@pytest.mark.parametrize(
    'task, args', [('proj.noted', ()), ('proj.noted', (True,)), ('proj.big', (700_000,)), ('proj.again', ())]
)
def test_what_may_be_looked_at_is_stored_at_once(pool, task, args):
    assert pool.send(task, *args).store is None


def test_what_receivers_may_look_at_is_stored_before_they_run(start, side):
    pool = start(environment={'PROJ_WATCH': '1'})
    assert pool.facts['results']['capture'] is False
    assert pool.send('proj.boom', task_id=ID).store is None
    assert stored(side.redis, ID)[0][0] == ('status', 'FAILURE')
    assert pool.send('proj.add', 1, 2).store is None
    noted = ['task_received proj.boom [] Consumer', 'task_failure proj.boom KeyError']
    assert side.notes() == [*noted, 'task_received proj.add [1, 2] Consumer', 'task_success proj.add']


def test_extended_results_are_the_same(start, side):
    pool = start(environment={'PROJ_CONF': json.dumps({'result_extended': True})})
    for kind in (messages.TASK, messages.WHOLE):
        side.redis.flushdb()
        pool.send('proj.add', 1, 2, kind=kind, task_id=ID)
        value = dict(stored(side.redis, ID)[0])
        assert (value['name'], value['args'], value['queue']) == ('proj.add', [1, 2], 'celery')
        assert value['worker'] == pool.facts['node']


def test_the_start_is_told_with_the_workers_own_process(pool):
    answer = pool.send('proj.tracked')
    assert f"'pid': {pool.worker.pid}" in answer.outcome['result']


def test_a_result_waits_for_a_store_that_is_away(start, side):
    port = free_port()

    def serve():
        options = ['--bind', '127.0.0.1', '--port', str(port), '--save', '', '--appendonly', 'no']
        process = child.start(['redis-server', *options], stdout=subprocess.DEVNULL)
        return process

    backend = f'redis://127.0.0.1:{port}/0'
    pool = start(environment={'PROJ_BACKEND': backend})
    pool.app.send_task('proj.add', (1, 2), task_id=ID)
    execution = pool.worker.send('celery', payload=messages.payload(messages.taken(side.redis)), kind=messages.WHOLE)
    until(lambda: 'sleep' in Path(f'/proc/{pool.worker.pid}/wchan').read_text(), 'the worker waits')
    process = serve()
    try:
        done = pool.worker.done()
        assert (done.execution, done.code) == (execution, 0)
        client = Redis.from_url(backend)
        until(lambda: stored(client, ID)[0][1] == ('result', 3), 'the result is there')
    finally:
        process.kill()
        process.wait()
