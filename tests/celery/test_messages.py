"""Messages that are not the usual ones: of older protocols, refused, expired, unreadable."""

import base64
import json
import pickle
import time

import pytest

from harness import messages
from harness.results import stored
from supervisor import FAILURE

ID = '33333333-3333-4333-8333-333333333333'


def envelope(body, content_type='application/json', encoding='utf-8', **headers):
    """A message as it lies in Redis."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return {
        'body': base64.b64encode(body).decode(),
        'content-type': content_type,
        'content-encoding': encoding,
        'headers': headers,
        'properties': {
            'correlation_id': ID,
            'reply_to': 'nobody',
            'delivery_mode': 2,
            'delivery_info': {'exchange': '', 'routing_key': 'celery'},
            'priority': 0,
            'body_encoding': 'base64',
            'delivery_tag': '88b16aaa-0810-452e-8ad3-e2b825e09975',
        },
    }


def protocol_1(task='proj.add', args=(1, 2), **more):
    body = {'task': task, 'id': ID, 'args': args, 'kwargs': {}, 'retries': 0, 'eta': None, 'expires': None, 'utc': True}
    return {**body, 'callbacks': None, 'errbacks': None, 'timelimit': [None, None], 'taskset': None, 'chord': None, **more}


EMBED = {'callbacks': None, 'errbacks': None, 'chain': None, 'chord': None}
GZIP, PICKLE = 'application/x-gzip', 'application/x-python-serialize'
OLD = '2020-01-01T00:00:00+00:00'
KNOWN = {'task': 'proj.add', 'id': ID}
ARGUMENTS = [[1, 2], {}, EMBED]
PICKLED = pickle.dumps(ARGUMENTS)
#: Name, message, state, what becomes of it. Stock workers are asked for the rest.
ODD = [
    ('protocol 1', envelope(protocol_1()), 'SUCCESS', 'ack'),
    ('protocol 1 that fails', envelope(protocol_1('proj.boom', ())), 'FAILURE', 'ack'),
    ('protocol 1 of an unknown task', envelope(protocol_1('no.such.task')), 'FAILURE', 'reject'),
    ('hybrid', envelope(protocol_1(), **KNOWN), 'SUCCESS', 'ack'),
    ('no task', envelope(ARGUMENTS), 'REJECTED', 'reject'),
    ('no JSON and no task', envelope(b'{'), 'REJECTED', 'ack'),
    ('no JSON', envelope(b'{', **KNOWN), 'REJECTED', 'ack'),
    ('no known content', envelope(b'xyz', 'application/x-strange', **KNOWN), 'REJECTED', 'reject'),
    ('a pickle', envelope(PICKLED, PICKLE, 'binary', **KNOWN), 'REJECTED', 'reject'),
    ('keyword arguments of protocol 1 that are none', envelope(protocol_1(kwargs=[1])), 'REJECTED', 'reject'),
    ('an eta that is none', envelope(ARGUMENTS, **KNOWN, eta='soon'), 'REJECTED', 'reject'),
    ('what can not be decompressed', envelope(b'xyz', **KNOWN, compression=GZIP), 'REJECTED', 'ack'),
    ('expired', envelope(ARGUMENTS, **KNOWN, expires=OLD), 'REVOKED', 'ack'),
]


@pytest.mark.parametrize('message, state, then', [each[1:] for each in ODD], ids=[each[0] for each in ODD])
def test_an_odd_message_ends_as_with_a_stock_worker(pool, stock, side, stock_side, message, state, then):
    answer = pool.run(message)
    assert (answer.state, answer.then) == (state, then)
    stock.push(message)
    assert stored(side.redis, ID) == stored(stock_side.redis, ID)
    assert side.notes() == stock_side.notes()
    assert pool.send('proj.add', 1, 2).state == 'SUCCESS'


@pytest.mark.parametrize(
    'body',
    [b'', b'null', b'7', b'[]', b'[1]', b'[[1, 2], [], {}]', b'[[1, 2], {}, 7]', b'[7, {}, {}]', b'\xff'],
    ids=str,
)
def test_a_body_with_which_a_stock_worker_ends_is_rejected(pool, body):
    answer = pool.run(envelope(body, task='proj.add', id=ID))
    assert answer.state in ('REJECTED', 'FAILURE') and answer.then in ('reject', 'ack')
    assert pool.send('proj.add', 1, 2).state == 'SUCCESS'


@pytest.mark.parametrize(
    'headers', [{'task': 7, 'id': ID}, {'task': ['x'], 'id': ID}, {'task': 'proj.add'}, {'task': None}], ids=str
)
def test_headers_of_wrong_types_are_rejected(pool, headers):
    answer = pool.run(envelope([[1, 2], {}, EMBED], **headers))
    assert answer.then in ('reject', 'ack')
    assert pool.send('proj.add', 1, 2).state == 'SUCCESS'


@pytest.mark.parametrize('timelimit', [7, [1], 'xy', [None, 'soon'], {}], ids=str)
def test_a_time_limit_that_is_none_does_no_harm(pool, timelimit):
    answer = pool.run(envelope([[1, 2], {}, EMBED], task='proj.add', id=ID, timelimit=timelimit))
    assert answer.then in ('ack', 'reject')
    assert pool.send('proj.add', 1, 2).state == 'SUCCESS'


def test_a_long_message_and_a_long_result(pool):
    answer = pool.send('proj.add', 'x' * 10_000_000, 'y')
    assert answer.state == 'SUCCESS' and answer.store is None


def test_a_message_of_protocol_1_that_is_early_says_when_its_time_comes(pool, side):
    due = time.time() + 3600
    message = envelope(protocol_1(eta=time.strftime('%Y-%m-%dT%H:%M:%S+00:00', time.gmtime(due))))
    answer = pool.run(message)
    assert (answer.state, answer.then) == ('LATER', None)
    assert abs(answer.outcome['eta'] - due) < 1
    assert stored(side.redis, ID) is None
    assert pool.run(message, due=True).state == 'SUCCESS'


def test_a_redelivered_message_says_so(pool):
    pool.app.send_task('proj.describe')
    message = messages.taken(pool.redis)
    message['properties']['delivery_info']['redelivered'] = True
    assert 'True' in pool.run(message).outcome['result']


def test_a_frame_that_is_no_frame_of_ours_is_told(pool):
    for payload in (b'', b'xx', b'\xff\xff\xff\xff{', b'\x02\x00\x00\x00[]'):
        done = pool.worker.call('celery', payload=payload, kind=messages.TASK)
        assert done.code == FAILURE and done.error['message'], done
    assert pool.send('proj.add', 1, 2).state == 'SUCCESS'
