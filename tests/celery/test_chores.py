"""What Celery's parent process does, done in a worker."""

import json

import pytest

from harness import messages
from harness.results import stored

ID = '55555555-5555-4555-8555-555555555555'
LOST = {'do': 'worker_lost', 'status': -9}


def on_error(app):
    return app.signature('proj.on_error', task_id='errback')


@pytest.mark.parametrize('has_errback', [False, True])
def test_a_lost_worker_leaves_what_it_leaves_with_a_stock_worker(pool, stock, side, stock_side, has_errback):
    options = {'task_id': ID}
    if has_errback:
        options['link_error'] = on_error(pool.app)
    answer = pool.chore('proj.die', chore=LOST, **options)
    stock.send('proj.die', **options)
    assert (answer.state, answer.then, answer.events) == ('FAILURE', 'ack', ['task-failed'])
    assert stored(side.redis, ID) == stored(stock_side.redis, ID)
    assert side.notes() == stock_side.notes()
    shown = answer.outcome['events'][0][1]
    assert shown['exception'] == "WorkerLostError('Worker exited prematurely: signal 9 (SIGKILL) Job: 0.')"


def test_a_lost_task_that_asks_for_it_is_requeued_and_nothing_stored(pool, side):
    answer = pool.chore('proj.noted_late', chore=LOST, task_id=ID)
    assert (answer.state, answer.then, answer.events) == ('REJECTED', 'requeue', ['task-rejected'])
    assert stored(side.redis, ID) is None


def test_a_task_that_loses_its_worker_for_good_fails_whatever_it_asks_for(pool, side):
    answer = pool.chore('proj.noted_late', chore={**LOST, 'final': True}, task_id=ID)
    assert (answer.state, answer.then) == ('FAILURE', 'ack')
    assert dict(stored(side.redis, ID)[0])['result']['exc_type'] == 'WorkerLostError'
    assert pool.chore('proj.noted_late', chore=LOST, task_id=ID).then == 'requeue'


@pytest.mark.celery57
def test_a_worker_lost_after_its_task_succeeded_changes_nothing(pool, side):
    pool.send('proj.add', 1, 2, task_id=ID)
    before = stored(side.redis, ID)
    answer = pool.run(pool.last, messages.CHORE, chore=LOST)
    assert (answer.state, answer.then) == ('SUCCESS', 'ack')
    assert stored(side.redis, ID) == before


@pytest.mark.celery57
def test_a_lost_task_may_be_retried(pool, side):
    answer = pool.chore('proj.lost_again', chore=LOST, task_id=ID)
    assert (answer.state, answer.then) == ('RETRY', 'ack')
    assert messages.taken(side.redis)['headers']['retries'] == 1


@pytest.mark.celery57
@pytest.mark.parametrize('task, then', [('proj.sleep_noted', 'ack'), ('proj.sleep_late', 'requeue')])
def test_the_hard_limit_calls_the_hooks_of_a_failure(pool, side, task, then):
    answer = pool.chore(task, 30, chore={'do': 'timeout', 'seconds': 0.5}, task_id=ID)
    assert (answer.state, answer.then) == ('FAILURE', then)
    assert answer.events.count('task-failed') == 1
    assert side.notes() == ['on_failure TimeLimitExceeded TimeLimitExceeded(0.5,)']
    assert dict(stored(side.redis, ID)[0])['result']['exc_type'] == 'TimeLimitExceeded'


def test_the_hard_limit_is_told_as_its_message_writes_it(pool, side):
    chore = {'do': 'timeout', 'seconds': 1.0}
    pool.chore('proj.sleep_noted', 30, chore=chore, task_id=ID, time_limit=1)
    assert dict(stored(side.redis, ID)[0])['result']['exc_message'] == [1]


def test_the_hard_limit_stores_what_a_stock_worker_stores(pool, stock, side, stock_side):
    pool.chore('proj.sleep_noted', 30, chore={'do': 'timeout', 'seconds': 0.5}, task_id=ID)
    stock.send('proj.sleep_noted', 30, task_id=ID, time_limit=0.5)
    assert stored(side.redis, ID) == stored(stock_side.redis, ID)
    assert side.notes()[:1] == stock_side.notes()[:1]


@pytest.mark.parametrize(
    'chore, reason',
    [
        ({}, 'revoked'),
        ({'terminated': True, 'signum': 15}, 'terminated'),
        ({'expired': True}, 'expired'),
    ],
)
def test_a_revoked_task_is_marked_and_acknowledged(pool, side, chore, reason):
    answer = pool.chore('proj.add', 1, 2, chore={'do': 'revoked', **chore}, task_id=ID)
    assert (answer.state, answer.then, answer.events) == ('REVOKED', 'ack', ['task-revoked'])
    value = dict(stored(side.redis, ID)[0])
    assert (value['status'], value['result']['exc_message']) == ('REVOKED', [reason])
    terminated, expired = bool(chore.get('terminated')), bool(chore.get('expired'))
    assert side.notes() == [f'task_revoked proj.add {terminated} {expired}']


def test_an_unknown_task_is_told_and_rejected(pool, side):
    answer = pool.chore('no.such.task', chore={'do': 'unknown'}, task_id=ID)
    assert (answer.state, answer.then, answer.events) == ('FAILURE', 'reject', ['task-failed'])
    assert side.notes() == ['task_unknown no.such.task']
    assert dict(stored(side.redis, ID)[0])['result']['exc_type'] == 'NotRegistered'


def test_ids_are_marked_as_revoked_unless_they_have_ended(pool, side):
    pool.send('proj.add', 1, 2, task_id='ended')
    pool.app.send_task('proj.add', (1, 2), task_id=ID)
    pool.run(messages.taken(side.redis), messages.CHORE, chore={'do': 'mark_revoked', 'ids': [ID, 'ended']})
    assert dict(stored(side.redis, ID)[0])['status'] == 'REVOKED'
    assert dict(stored(side.redis, 'ended')[0])['status'] == 'SUCCESS'


def test_the_end_of_the_worker_is_told(pool, side):
    bare = {'headers': {}, 'properties': {}, 'content-type': '', 'content-encoding': '', 'body': ''}
    pool.run(bare, messages.CHORE, chore={'do': 'shutdown', 'sig': 'SIGTERM', 'how': 'Warm'})
    assert side.notes('worker_shutdown', 'worker_shutting_down') == ['worker_shutting_down Warm', 'worker_shutdown']


def test_a_chore_that_nobody_knows_is_told(pool):
    pool.app.send_task('proj.add', (1, 2))
    error = pool.broken(messages.taken(pool.redis), messages.CHORE, chore={'do': 'dance'})
    assert "an order to do 'dance'" in error['message']
    assert json.dumps(error)
