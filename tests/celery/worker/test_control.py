"""Remote control: a pool answers what a stock worker answers, field by field."""

import base64
import json
import socket
import subprocess
import sys

import pytest

from support.wait import until

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
    return [ask(side, method, arguments, **options)[NODE] for side in both]


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
    outputs = [command(side, 'status') for side in both]
    assert [output.returncode for output in outputs] == [0, 0], outputs
    assert outputs[0].stdout == outputs[1].stdout
    assert f'{NODE}: OK' in outputs[1].stdout and '1 node online' in outputs[1].stdout
    stock, pool = (json.loads(command(side, 'inspect', 'ping', '--json').stdout) for side in both)
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
    stock, pool = (ask(side, 'ping', node=None, **{'destination': None, 'timeout': 0.5, **meant}) for side in both)
    assert stock == pool


def test_unknown_commands_and_missing_arguments(both):
    for method, arguments in [('nosuchcommand', {}), ("it's", {}), ('hello', {})]:
        stock, pool = of_both(both, method, arguments)
        assert stock == pool and 'error' in pool, method


def test_mingle_and_clock(both):
    stock, pool = of_both(both, 'hello', {'from_node': 'w2@host', 'revoked': []})
    assert (stock.keys(), stock['revoked'], pool['revoked']) == (pool.keys(), [], [])
    stock, pool = of_both(both, 'clock')
    assert stock.keys() == pool.keys() and min(stock['clock'], pool['clock']) > 0


def test_replies_are_messages_as_stock_workers_write_them(both):
    """Nobody takes the answer, so it stays where it was put."""
    found = []
    for side in both:
        with side.app.connection_for_write() as connection:
            mailbox = side.app.control.mailbox(connection)
            mailbox.reply_queue(connection.default_channel).declare()
            mailbox._publish('ping', {}, reply_ticket='a ticket', channel=connection.default_channel, timeout=1)
            key = mailbox.reply_queue.name
            until(lambda: side.redis.llen(key), 'the answer is there')
            message = json.loads(side.redis.rpop(key))
        properties = message['properties']
        assert properties.pop('delivery_tag') and message['headers'].pop('clock') > 0
        assert message['headers']['ticket'] == 'a ticket'
        assert properties['delivery_info'].pop('routing_key')
        message['body'] = json.loads(base64.b64decode(message['body']))
        found.append(message)
    assert found[0] == found[1]


def test_bad_requests_are_logged_once_and_harm_nobody(alone):
    side = alone('pool')
    side.start(workers=1)
    heard(side)
    channel = f'/{side.url.rsplit("/", 1)[1]}.celery.pidbox'
    for bad in [b'', b'\xff\xfe', b'5', b'{"body": 5}', b'{"body": "x", "properties": {"body_encoding": "base64"}}'] * 3:
        assert side.redis.publish(channel, bad) == 1
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
    assert side.redis.pubsub_numsub('/2.celery.pidbox')[0][1] == 0
