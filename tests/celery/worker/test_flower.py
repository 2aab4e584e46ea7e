"""Flower runs against a pool that is under load: its pages tell what `pool status` tells, and its buttons do what they say."""

import json
import socket
import time

import pytest

from harness.flower import Flower
from support.wait import until

NODE = f'celery@{socket.gethostname()}'
#: What the worker page shows of a worker.
PARTS = ('stats', 'active_queues', 'registered', 'scheduled', 'active', 'reserved', 'revoked', 'conf')
LONG = 120
#: More than a pool holds in advance.
LATER = 200


@pytest.fixture
def side(alone, request):
    """A pool with two workers, and what a test adds to its command line."""
    side = alone('pool')
    side.start('-E', '-Q', 'celery,mail', *getattr(request, 'param', ()))
    return side


@pytest.fixture
def flower(side):
    broker = side.broker
    api = f'http://guest:guest@127.0.0.1:{broker.server.management}/api/' if broker.transport == 'rabbitmq' else None
    return Flower(side, api)


def status(side):
    return json.loads(side.verb('status', '--json'))['pools']['default']


def limits(side):
    now = status(side)
    return now['min'], now['max']


def listed(flower):
    """The row of the page with all workers."""
    rows = flower.get('/workers?json=1')['data']
    return next((row for row in rows if row['hostname'] == NODE), None)


def shown(flower):
    """What the page of the worker shows."""
    return flower.get(f'/api/workers?refresh=1&workername={NODE}')[NODE]


def lengths(flower):
    """What the page of the broker tells of each queue. RabbitMQ renews its figures each 5 s."""
    queues = flower.get('/api/queues/length')['active_queues']
    return {queue['name']: queue.get('messages_ready', queue.get('messages')) for queue in queues}


def tasks(flower, **wanted):
    query = '&'.join(f'{name}={value}' for name, value in wanted.items())
    return flower.get(f'/api/tasks?{query}')


def test_its_pages_under_load(side, flower):
    until(lambda: listed(flower) and listed(flower)['status'], 'the worker is listed')
    eta = side.send('shop.add', 1, 1, countdown=50)
    long = [side.send('shop.sleeps', f'long {n}', LONG) for n in range(2)]
    until(lambda: side.runs('long 0') + side.runs('long 1') == 2, 'both workers are busy')
    later = [side.send('shop.add', n, n) for n in range(LATER)]
    until(lambda: listed(flower)['active'] == status(side)['busy'] == 2, 'the page of all workers tells who is busy')

    page = shown(flower)
    assert set(PARTS) <= page.keys()
    now = status(side)
    assert {task['id'] for task in page['active']} == {result.id for result in long}
    assert {task['worker_pid'] for task in page['active']} == {process['pid'] for process in now['processes']}
    assert [queue['name'] for queue in page['active_queues']] == now['queues']
    assert page['stats']['pool']['max-concurrency'] == now['max'] == 2
    assert sorted(page['stats']['pool']['processes']) == sorted(process['pid'] for process in now['processes'])
    assert page['stats']['pid'] == json.loads(side.verb('status', '--json'))['pid']
    assert sum(page['stats']['total'].values()) == now['done'] + now['busy']
    assert 'shop.sleeps' in ' '.join(page['registered'])
    until(lambda: eta.id in [entry['request']['id'] for entry in shown(flower)['scheduled']], 'the page shows what is due later')

    for path in ('/', '/workers', f'/worker/{NODE}', '/tasks', f'/task/{long[0].id}', '/broker'):
        assert flower.page(path), path
    assert NODE in flower.page(f'/worker/{NODE}') and long[0].id in flower.page(f'/worker/{NODE}')
    until(lambda: tasks(flower, state='STARTED').keys() == {result.id for result in long}, 'the page of tasks shows what runs')
    until(lambda: lengths(flower) == {'celery': side.broker.waiting('celery'), 'mail': 0}, 'the page of the broker tells what waits')
    assert lengths(flower)['celery'] > 0

    for result in long:
        flower.press(f'/api/task/revoke/{result.id}', terminate='true')
    until(lambda: all(result.ready() for result in later), 'the others run')
    until(lambda: len(tasks(flower, state='SUCCESS', taskname='shop.add')) == LATER, 'the page of tasks shows their end')
    ended = tasks(flower, state='SUCCESS', taskname='shop.add')
    assert {(task['worker'], task['result']) for task in ended.values()} == {(NODE, str(2 * n)) for n in range(LATER)}
    until(lambda: {tasks(flower)[result.id]['state'] for result in long} == {'REVOKED'}, 'the page of tasks shows who was revoked')
    until(lambda: (listed(flower)['processed'], listed(flower)['active']) == (LATER + 3, 0), 'the page of all workers counts the same')


def test_its_buttons(side, flower):
    until(lambda: listed(flower), 'the worker is listed')
    shown(flower)  # it presses buttons only of workers that it knows
    flower.press(f'/api/worker/pool/grow/{NODE}', n=2)
    until(lambda: limits(side) == (4, 4) and status(side)['workers'] == 4, 'it has grown')
    flower.press(f'/api/worker/pool/shrink/{NODE}', n=1)
    until(lambda: limits(side) == (3, 3) and status(side)['workers'] == 3, 'it has shrunk')
    flower.press('/api/task/rate-limit/shop.add', workername=NODE, ratelimit='1/m')
    first, second = side.send('shop.add', 1, 1), side.send('shop.add', 2, 2)
    assert first.get(timeout=30) == 2
    time.sleep(0.5)
    assert not second.ready(), 'the second one waits for a minute'
    flower.press('/api/task/rate-limit/shop.add', workername=NODE, ratelimit='0')
    assert second.get(timeout=30) == 4

    flower.press('/api/task/timeout/shop.sleeps', workername=NODE, hard=1)
    limited = side.send('shop.sleeps', 'limited', LONG)
    until(limited.ready, 'its limit ends it')
    assert 'TimeLimitExceeded' in repr(limited.result)

    waits = side.send('shop.add', 1, 1, countdown=40)
    flower.press(f'/api/task/revoke/{waits.id}')
    until(lambda: waits.state == 'REVOKED', 'it is revoked')

    flower.press(f'/api/worker/shutdown/{NODE}')
    assert side.processes[0].wait(60) == 0
    until(lambda: not listed(flower)['status'], 'it is told to be offline')


@pytest.mark.parametrize('side', [('--autoscale=4,2',)], indirect=True, ids=['autoscale'])
def test_its_button_for_autoscale(side, flower):
    until(lambda: listed(flower), 'the worker is listed')
    assert shown(flower)['stats']['autoscaler'] and limits(side) == (2, 4)
    flower.press(f'/api/worker/pool/autoscale/{NODE}', min=1, max=5)
    until(lambda: limits(side) == (1, 5), 'its limits are those of the button')


def test_its_buttons_for_queues(side, flower):
    until(lambda: listed(flower), 'the worker is listed')
    shown(flower)
    flower.press(f'/api/worker/queue/add-consumer/{NODE}', queue='other')
    assert side.send('shop.add', 1, 2, queue='other').get(timeout=30) == 3
    assert 'other' in status(side)['queues']
    flower.press(f'/api/worker/queue/cancel-consumer/{NODE}', queue='other')
    until(lambda: 'other' not in status(side)['queues'], 'the queue is served no more')
