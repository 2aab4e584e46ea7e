"""Remote control: a pool answers what a stock worker answers, field by field."""

import datetime
import json
import socket
import subprocess
import sys

import pytest

from support.wait import until
from worker.sides import together

HOST = socket.gethostname()
NODE = f'celery@{HOST}'


def ask(side, method, arguments=None, node=NODE, **options):
    """The answers of all who are meant, by node; it ends with the answer of `node`."""
    options.setdefault('destination', [node] if node else None)
    options.setdefault('timeout', 10 if node else 1)
    with side.app.connection_for_write() as connection:
        answers = side.app.control.broadcast(method, arguments or {}, reply=True, connection=connection, **options)
    return {name: answer for each in answers for name, answer in each.items()}


def of_both(both, method, arguments=None, **options):
    """The answers of the stock worker and of the pool."""
    return together(both, lambda side: ask(side, method, arguments, **options)[NODE])


def command(side, *words):
    """A program of Celery's."""
    line = [sys.executable, '-m', 'celery', '-A', 'shop', *words]
    return subprocess.run(line, env=side.environment(), capture_output=True, text=True, timeout=60)


def heard(side):
    """Somebody listens to requests."""
    until(lambda: ask(side, 'ping', timeout=1), f'{side.kind} answers')


@pytest.fixture
def both(both_running):
    for side in both_running:
        side.clear()
        heard(side)
    return both_running


def test_celery_status_and_ping(both):
    outputs = together(both, lambda side: command(side, 'status'))
    assert [output.returncode for output in outputs] == [0, 0], outputs
    assert outputs[0].stdout == outputs[1].stdout
    assert f'{NODE}: OK' in outputs[1].stdout and '1 node online' in outputs[1].stdout
    stock, pool = together(both, lambda side: json.loads(command(side, 'inspect', 'ping', '--json').stdout))
    assert stock == pool == {NODE: {'ok': 'pong'}}


@pytest.mark.parametrize(
    'meant',
    [
        {'pattern': 'celery@*', 'matcher': 'glob'},
        {'pattern': 'other@*', 'matcher': 'glob'},
        {'pattern': 'cel.*@', 'matcher': 'pcre'},
        {'pattern': 'elery@', 'matcher': 'pcre'},
        {'destination': ['other@host']},
        {'destination': [NODE, 'other@host'], 'limit': 1},
    ],
    ids=str,
)
def test_who_is_meant(both, meant):
    options = {'destination': None, 'timeout': 0.5, **meant}
    stock, pool = together(both, lambda side: ask(side, 'ping', node=None, **options))
    assert stock == pool


def test_unknown_commands_and_missing_arguments(both):
    for method, arguments in [('nosuchcommand', {}), ("it's", {}), ('hello', {})]:
        stock, pool = of_both(both, method, arguments)
        assert stock == pool and 'error' in pool, method


def test_mingle_and_clock(both):
    stock, pool = of_both(both, 'hello', {'from_node': 'w2@host', 'revoked': []})
    assert stock.keys() == pool.keys()
    stock, pool = of_both(both, 'clock')
    assert stock.keys() == pool.keys() and min(stock['clock'], pool['clock']) > 0


def test_replies_are_messages_as_stock_workers_write_them(both):
    """Nobody takes the answer, so it stays where it was put."""
    found = []
    for side in both:
        with side.app.connection_for_write() as connection:
            mailbox = side.app.control.mailbox(connection)
            queue = mailbox.reply_queue(connection.default_channel)
            queue.declare()
            mailbox._publish('ping', {}, reply_ticket='a ticket', channel=connection.default_channel, timeout=1)
            message = until(lambda: queue.get(no_ack=True), 'the answer is there')
        properties, headers = message.properties, message.headers
        assert headers.pop('clock') > 0 and headers['ticket'] == 'a ticket'
        if side.broker.transport == 'redis':  # part of the message there
            assert properties.pop('delivery_tag') and properties['delivery_info'].pop('routing_key')
        found.append((message.payload, message.content_type, message.content_encoding, properties, headers))
    assert found[0] == found[1]


def test_bad_requests_are_logged_once_and_harm_nobody(alone):
    side = alone('pool')
    side.start(workers=1)
    heard(side)
    for bad in [b'', b'\xff\xfe', b'5', b'{"body": 5}', b'{"body": "x", "properties": {"body_encoding": "base64"}}'] * 3:
        assert side.broker.shout('celery.pidbox', bad)
    heard(side)
    assert 2 <= side.output().count('a remote control request is ignored') <= 5, side.output()


def test_a_prefix_and_an_exchange_of_its_own(alone):
    conf = {'broker_transport_options': {'global_keyprefix': 'mine:', 'fanout_prefix': 'f{db}.'}, 'control_exchange': 'ours'}
    side = alone('pool', conf)
    side.start('-n', 'named@%h', workers=1)
    until(lambda: ask(side, 'ping', node=f'named@{HOST}', timeout=1), 'it answers')


def test_without_remote_control_nobody_answers(alone):
    side = alone('pool', {'worker_enable_remote_control': False})
    side.start(workers=1)
    assert not side.broker.shout('celery.pidbox', b'anybody?')


def looked_at(side, method, ready, arguments=None):
    """The answer to `method`, once `ready` holds of it."""
    answers = []

    def is_ready():
        answers.append(ask(side, method, arguments)[NODE])
        return ready(answers[-1])

    until(is_ready, f'{side.kind} answers {method}')
    return answers[-1]


def without(info, *names):
    """The same with what may differ taken away, which must be there."""
    info = dict(info)
    for name in names:
        assert info.pop(name), name
    return info


def make_busy(alone, long_before=0):
    """A stock worker and a pool: one task runs, one waits for a process, one for its time. `long_before`: one like the first
    has run before, for so many seconds."""
    sides = [alone('stock'), alone('pool')]
    # Over RabbitMQ what is due much later waits at the server.
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=55)
    eta = ETA if sides[0].broker.transport == 'redis' else soon
    for side in sides:
        side.start('--prefetch-multiplier', '2', workers=1)
        heard(side)
        if long_before:
            side.send('shop.sleeps', 'before', long_before).get(timeout=60)
        side.send('shop.sleeps', 'runs', 60, task_id='runs', priority=0)
        until(lambda side=side: side.runs('runs'), 'it runs')
        # Once one waits, a pool whose only worker is busy takes no more.
        side.send('shop.add', 3, 4, task_id='scheduled', eta=eta)
        until(lambda side=side: not side.broker.waiting('celery'), 'it is in the hands of the worker')
        side.send('shop.add', 1, 2, task_id='waits')
    return sides


@pytest.fixture
def busy(alone):
    """See `make_busy`."""
    return make_busy(alone)


ETA = datetime.datetime(2999, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.timezone.utc)


@pytest.mark.celery57
def test_tasks_in_hand(alone):
    """What runs, what waits and what is scheduled, as their requests are shown."""
    # A pool leaves a task with its worker as long as the one before it takes no longer than usual. Then another may have it.
    busy = make_busy(alone, long_before=4)
    active, reserved, scheduled, query = [], [], [], []
    for side in busy:
        (info,) = looked_at(side, 'active', lambda tasks: tasks)
        active.append(without(info, 'time_start', 'worker_pid'))
        (info,) = looked_at(side, 'reserved', lambda tasks: tasks)
        reserved.append(info)
        (info,) = looked_at(side, 'scheduled', lambda tasks: tasks)
        scheduled.append(info)
        found = ask(side, 'query_task', {'ids': ['runs', 'waits', 'scheduled', 'unknown']})[NODE]
        query.append({name: (state, without(info) if name != 'runs' else active[-1]) for name, (state, info) in found.items()})
    assert active[0] == active[1]
    assert reserved[0] == reserved[1]
    assert scheduled[0] == scheduled[1]
    assert query[0] == query[1] and sorted(query[1]) == ['runs', 'scheduled', 'waits']
    safe = [ask(side, 'active', {'safe': True})[NODE][0]['args'] for side in busy]
    assert safe[0] == safe[1]


def test_statistics(busy):
    stock, pool = (looked_at(side, 'stats', lambda stats: 'shop.sleeps' in stats['total']) for side in busy)
    assert stock.keys() == pool.keys() and stock['pool'].keys() == pool['pool'].keys()
    assert stock['rusage'].keys() == pool['rusage'].keys()
    assert stock['total'] == pool['total']
    broker = [without(stats['broker'], 'virtual_host') for stats in (stock, pool)]
    assert broker[0] == broker[1]
    for name in ('implementation', 'max-concurrency', 'max-tasks-per-child', 'put-guarded-by-semaphore', 'timeouts'):
        assert stock['pool'][name] == pool['pool'][name], name
    assert [type(stock[name]) for name in ('pid', 'clock', 'uptime')] == [int, str, int]
    assert [type(pool[name]) for name in ('pid', 'clock', 'uptime')] == [int, str, int]
    assert pool['pid'] == busy[1].processes[0].pid and len(pool['pool']['processes']) == 1


@pytest.mark.parametrize(
    ('method', 'arguments'),
    [
        ('registered', {}),
        ('dump_tasks', {'builtins': True}),
        ('active_queues', {}),
        ('active', {}),
        ('query_task', {'ids': 'unknown'}),
        ('query_task', {}),
        ('pool_restart', {}),
        ('autoscale', {'max': 3, 'min': 1}),
        ('heartbeat', {}),
    ],
    ids=str,
)
def test_answers_are_the_same(both, method, arguments):
    stock, pool = of_both(both, method, arguments)
    if method == 'active_queues':
        stock, pool = (sorted(queues, key=lambda queue: queue['name']) for queues in (stock, pool))
    assert stock == pool


def test_settings_and_report(both):
    """Each has a database of its own, and that is all that differs."""
    for arguments in ({}, {'with_defaults': True}):
        stock, pool = of_both(both, 'conf', arguments)
        stock.pop('worker_disable_prefetch')  # the command line of a stock worker always sets it
        pool.pop('worker_disable_prefetch', None)
        assert stock.keys() == pool.keys()
        for settings in (stock, pool):
            # Made of a set: in any order. Source: celery/worker/worker.py, `setup_includes`.
            settings['include'] = sorted(settings.get('include') or [])
        assert {name for name in stock if stock[name] != pool[name]} <= {
            'broker_url',
            'result_backend',
            'result_backend_max_retries',  # infinite: no number of JSON's
        }
    stock, pool = of_both(both, 'report')
    assert stock['ok'].splitlines()[:5] == pool['ok'].splitlines()[:5]


def test_the_pool_grows_and_shrinks(alone):
    sides = [alone('stock'), alone('pool')]
    for side in sides:
        side.start(workers=2)
        heard(side)
    for method, arguments, size in [('pool_grow', {'n': 2}, 4), ('pool_shrink', {}, 3)]:
        stock, pool = of_both(sides, method, arguments)
        assert stock == pool, method
        for side in sides:
            looked_at(side, 'stats', lambda stats, size=size: len(stats['pool']['processes']) == size)


def test_autoscale_moves_the_limits(alone):
    sides = [alone('stock'), alone('pool')]
    for side in sides:
        side.start('--autoscale=3,1')
        heard(side)
    for method, arguments in [('pool_grow', {'n': 1}), ('pool_shrink', {'n': 1}), ('autoscale', {'max': 4, 'min': 2})]:
        stock, pool = of_both(sides, method, arguments)
        assert stock == pool, method
    for side in sides:
        stats = looked_at(side, 'stats', lambda stats: stats['autoscaler']['current'] >= 2)
        assert (stats['autoscaler']['max'], stats['autoscaler']['min']) == (4, 2)


def test_shutdown_lets_tasks_end(alone):
    side = alone('pool')
    process = side.start(workers=1)
    heard(side)
    running = side.send('shop.sleeps', 'runs', 2)
    until(lambda: side.runs('runs'), 'it runs')
    side.app.control.shutdown(destination=[NODE])
    assert process.wait(60) == 0, side.output()
    assert running.ready()


def test_revoked_tasks_do_not_run(busy):
    """One that waits for a process, one that waits for its time, one that comes later, and one that runs on."""
    for side in busy:
        side.app.control.revoke('runs', destination=[NODE])
        ids = ['waits', 'scheduled', 'later']
        answers = {ask(side, 'revoke', {'task_id': name})[NODE]['ok'] for name in ids}
        assert answers == {f"tasks {{'{name}'}} flagged as revoked" for name in ids}
        revoked = ask(side, 'revoked')[NODE]
        assert sorted(revoked) == ['later', 'runs', 'scheduled', 'waits']
        later = side.send('shop.add', 1, 2, task_id='later')
        assert ask(side, 'active')[NODE][0]['id'] == 'runs', 'it runs on'
        assert 'runs' in ask(side, 'terminate', {'signal': 'KILL', 'task_id': 'runs'})[NODE]['ok']
        for name in ['runs', *ids]:
            until(lambda name=name: side.app.AsyncResult(name).state == 'REVOKED', f'{side.kind} revokes {name}')
        assert later.ready()
    errors = [[repr(side.app.AsyncResult(name).result) for name in ('runs', 'waits', 'later')] for side in busy]
    assert errors[0] == errors[1]
    marker = busy[1].send('shop.add', 5, 6)
    assert marker.get(timeout=30) == 11


@pytest.mark.parametrize(
    ('method', 'arguments'),
    [
        ('revoke', {'task_id': 'gone', 'terminate': True}),
        ('terminate', {'task_id': ['gone'], 'signal': 'SIGKILL'}),
        ('revoke', {'task_id': 'gone', 'terminate': True, 'signal': 'NOPE'}),
        ('revoke', {'task_id': []}),
        ('revoke', {}),
    ],
    ids=str,
)
def test_answers_to_revocations(both, method, arguments):
    stock, pool = of_both(both, method, arguments)
    assert 'error' in pool if arguments == {} else stock == pool


def test_revocations_come_from_mingling_workers(both):
    stock, pool = of_both(both, 'hello', {'from_node': 'w2@host', 'revoked': ['theirs']})
    assert 'theirs' in stock['revoked'] and 'theirs' in pool['revoked']


def test_queues_come_and_go(alone):
    """A queue is added and cancelled; a task of it that waits for its time still runs."""
    sides = [alone('stock'), alone('pool')]
    for side in sides:
        side.start('-Q', 'celery', workers=1)
        heard(side)
    for method, arguments in [
        ('add_consumer', {}),
        ('add_consumer', {'queue': 'extra'}),
        ('add_consumer', {'queue': 'extra'}),
        ('cancel_consumer', {'queue': 'nothing'}),
    ]:
        stock, pool = of_both(sides, method, arguments)
        assert stock == pool, (method, arguments)
    shown = []
    for side in sides:
        queues = looked_at(side, 'active_queues', lambda queues: len(queues) == 2)
        shown.append(sorted(queues, key=lambda queue: queue['name']))
        assert side.send('shop.add', 1, 2, queue='extra').get(timeout=30) == 3
    assert shown[0] == shown[1]
    laters = [side.send('shop.add', 3, 4, queue='extra', countdown=2) for side in sides]
    for side in sides:
        looked_at(side, 'scheduled', lambda tasks: tasks)
    stock, pool = of_both(sides, 'cancel_consumer', {'queue': 'extra'})
    assert stock == pool == {'ok': 'no longer consuming from extra'}
    for side, later in zip(sides, laters):
        looked_at(side, 'active_queues', lambda queues: [queue['name'] for queue in queues] == ['celery'])
        side.send('shop.quiet', 'left', queue='extra')
        assert side.send('shop.add', 5, 6).get(timeout=30) == 11
        assert later.get(timeout=30) == 7 and side.runs('left') == 0


def test_the_pool_is_restarted_where_the_application_allows_it(alone):
    side = alone('pool', {'worker_pool_restarts': True})
    side.start(workers=1)
    heard(side)
    before = side.send('shop.pid').get(timeout=30)
    assert ask(side, 'pool_restart')[NODE] == {'ok': 'reload started'}
    until(lambda: side.send('shop.pid').get(timeout=30) != before, 'another process runs tasks')


def test_a_node_that_begins_learns_what_was_revoked(alone):
    """From a stock worker to a pool, and the other way."""
    for first, second in [('stock', 'pool'), ('pool', 'stock')]:
        elder = alone(first)
        elder.start('-n', 'elder@%h', '-Q', 'other', workers=1, ready=False)
        until(lambda: ask(elder, 'ping', node=f'elder@{HOST}', timeout=1), 'it answers')
        ask(elder, 'revoke', {'task_id': f'of-{first}'}, node=f'elder@{HOST}')
        younger = alone(second)
        younger.serve_as(elder)
        if second == 'stock':
            line = [sys.executable, '-m', 'celery', '-A', 'shop', 'worker', '-c', '1', '-Q', 'celery', '--without-gossip']
            younger.spawn(line)
        else:
            younger.start('-Q', 'celery', workers=1, ready=False)
        until(lambda: ask(younger, 'ping', timeout=1), 'it answers')
        assert f'of-{first}' in ask(younger, 'revoked')[NODE]
        assert ask(younger, 'clock')[NODE]['clock'] > 1
