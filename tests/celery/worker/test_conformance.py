"""What Celery's documentation promises, run by the stock worker and by pool: results, keys and runs must be the same."""

import json
from datetime import datetime, timedelta, timezone

import celery
import pytest
from celery import chain, chord, group
from celery.result import AsyncResult

from support.wait import until
from worker.sides import together
from worker.stored import nameless, result_of, tree_of

CASES = []
#: What a stock worker of Celery 5.6 leaves undone: there is nothing to compare with.
SINCE_5_7 = ('rejected_and_put_back', 'a_task_that_leaves')


def case(function):
    """A case runs on a side, and returns what must be the same on both."""
    CASES.append(function)
    return function


def ended(side, result):
    """What is stored when a task has ended."""
    until(result.ready, f'{side.kind}: a task ends')
    return result_of(side, result)


def until_all_end(result):
    """A worker sends the next task of a chain before it stores the result of this one."""
    while result is not None:
        until(result.ready, 'each task of the chain ends')
        result = result.parent


# ---- calling ----


@case
def a_result(side):
    return ended(side, side.send('shop.add', 2, 3))


@case
def keyword_arguments(side):
    return ended(side, side.send('shop.text', kwargs={'value': 'ä€', 'times': 2}))


@case
def a_failure(side):
    return ended(side, side.send('shop.boom', 'no luck'))


@case
def an_unknown_task(side):
    return ended(side, side.send('shop.nowhere'))


@case
def wrong_arguments(side):
    return ended(side, side.send('shop.add', 1))


@case
def a_result_that_is_no_json(side):
    return ended(side, side.send('shop.no_json'))['status']


@case
def no_result_is_kept(side):
    result = side.send('shop.quiet', 'quiet')
    until(lambda: side.runs('quiet'), 'it runs')
    told = side.send('shop.text', 'x', ignore_result=True)
    ended(side, side.send('shop.add', 1, 1))
    ended(side, side.send('shop.add', 1, 1))
    return [result_of(side, result), result_of(side, told)]


@case
def what_a_task_sees_of_its_request(side):
    options = {'shadow': 'other', 'headers': {'own': 1}, 'priority': 3}
    return nameless(ended(side, side.send('shop.request', **options)), [])


@case
def another_queue(side):
    return ended(side, side.send('shop.request', queue='mail'))


@case
def countdown(side):
    before = datetime.now(timezone.utc)
    result = side.send('shop.add', 1, 2, countdown=1)
    stored = ended(side, result)
    return [stored, datetime.now(timezone.utc) - before >= timedelta(seconds=0.9)]


@case
def an_eta_of_another_zone(side):
    eta = datetime.now(timezone(timedelta(hours=5))) + timedelta(seconds=1)
    return ended(side, side.send('shop.add', 1, 2, eta=eta))


@case
def expired(side):
    result = side.send('shop.sleeps', 'expired', 0, expires=datetime.now(timezone.utc) - timedelta(seconds=5))
    return [ended(side, result), side.runs('expired')]


@case
def not_yet_expired(side):
    return ended(side, side.send('shop.add', 1, 1, expires=60))


@pytest.mark.parametrize('serializer', ['json', 'yaml', 'pickle'])
@pytest.mark.parametrize('compression', [None, 'zlib', 'bzip2'])
def test_serializers_and_compression(both, serializer, compression):
    options = {'serializer': serializer, 'compression': compression}
    assert_same(both, lambda side: ended(side, side.send('shop.text', 'ab', 500, **options)))


@case
def stamps(side):
    signature = side.task('request')
    signature.stamp(customer='c1')
    return ended(side, signature.apply_async())


@case
def links(side):
    name = 'linked'
    result = side.send('shop.add', 1, 2, link=side.task('linked', name))
    stored = ended(side, result)
    until(lambda: side.ledger.llen(name), 'the link runs')
    return [stored['result'], [json.loads(value) for value in side.ledger.lrange(name, 0, -1)]]


@case
def links_of_a_failure(side):
    name = 'errors'
    result = side.send('shop.boom', link_error=side.task('on_error', name))
    ended(side, result)
    until(lambda: side.ledger.llen(name), 'the errback runs')
    return nameless([value.decode() for value in side.ledger.lrange(name, 0, -1)], [result.id])


# ---- canvas ----


@case
def a_chain(side):
    result = chain(side.task('add', 1, 2), side.task('add', 10), side.task('add', 100)).apply_async()
    until_all_end(result)
    return tree_of(side, result)


@case
def a_chain_that_fails_in_the_middle(side):
    result = chain(side.task('add', 1, 2), side.task('boom').set(immutable=True), side.task('add', 1)).apply_async()
    until_all_end(result)
    return tree_of(side, result)


@case
def a_group(side):
    result = group(side.task('add', n, n) for n in range(10)).apply_async()
    until(result.ready, 'the group ends')
    return [result.get(timeout=10), [result_of(side, one)['status'] for one in result.results]]


@case
def a_chord(side):
    result = chord((side.task('add', n, n) for n in range(10)), side.task('total')).apply_async()
    stored = ended(side, result)
    left = [key for key in side.redis.keys('celery-taskset-meta*') if not key.decode().endswith(tuple('0123456789abcdef'))]
    return [stored['result'], stored['status'], left]


@case
def a_chord_whose_member_fails(side):
    result = chord([side.task('add', 1, 1), side.task('boom')], side.task('total')).apply_async()
    return [ended(side, result)[key] for key in ('status', 'traceback')][:1]


@case
def a_chain_of_groups(side):
    header = group(side.task('add', n, 1) for n in range(3))
    result = chain(header, side.task('total'), side.task('add', 1)).apply_async()
    return ended(side, result)['result']


@case
def chunks_map_and_starmap(side):
    add = side.task('add')
    chunk = side.app.signature('celery.starmap', kwargs={'task': add, 'it': [[n, n] for n in range(6)]})
    mapped = side.app.signature('celery.map', kwargs={'task': side.task('text'), 'it': ['a', 'b']})
    return [ended(side, chunk.apply_async())['result'], ended(side, mapped.apply_async())['result']]


@case
def a_task_that_replaces_itself(side):
    return ended(side, side.send('shop.replaced', 5))['result']


# ---- tasks ----


@case
def retries_until_it_succeeds(side):
    return [ended(side, side.send('shop.retries', 'retries', 2)), side.runs('retries')]


@case
def retries_that_are_used_up(side):
    result = side.send('shop.retries', 'used up', 99)
    until(lambda: result.state == 'FAILURE', 'it fails')
    return [result_of(side, result), side.runs('used up')]


@case
def retries_by_itself(side):
    result = side.send('shop.retries_by_itself', 'itself')
    until(lambda: result.state == 'FAILURE', 'it fails')
    return [result_of(side, result), side.runs('itself')]


@case
def ignored(side):
    result = side.send('shop.ignored')
    ended(side, side.send('shop.add', 1, 1))
    ended(side, side.send('shop.add', 1, 1))
    return result_of(side, result)


@case
def rejected(side):
    result = side.send('shop.rejected', 'rejected')
    until(lambda: side.runs('rejected'), 'it runs')
    if celery.VERSION >= (5, 7):  # an older worker stores nothing
        until(result.ready, 'its end is stored')
    ended(side, side.send('shop.add', 1, 1))
    return [result_of(side, result), side.runs('rejected')]


@case
def rejected_and_put_back(side):
    return [ended(side, side.send('shop.rejected', 'back', requeue=True)), side.runs('back')]


@case
def hooks(side):
    for how in ('succeed', 'fail', 'retry'):
        result = side.send('shop.hooked', how)
        until(lambda: result.state in ('SUCCESS', 'FAILURE'), 'it ends')
    until(lambda: side.runs('after_return') >= 3, 'the hooks are called, after the results are stored')
    ended(side, side.send('shop.add', 1, 1))
    return {name: side.runs(name) for name in ('on_success', 'on_failure', 'on_retry', 'after_return')}


@case
def a_soft_limit_that_is_caught(side):
    return ended(side, side.send('shop.catches_soft_limit'))


@case
def a_soft_limit_that_is_missed(side):
    return ended(side, side.send('shop.misses_soft_limit'))


@case
def a_hard_limit(side):
    return ended(side, side.send('shop.sleeps', 'hard', 30, time_limit=1))


@case
def a_task_that_leaves(side):
    return ended(side, side.send('shop.leaves', 3))


@case
def a_task_that_is_killed(side):
    return ended(side, side.send('shop.killed'))


@case
def a_late_task_that_is_killed_and_runs_again(side):
    return [ended(side, side.send('shop.killed_once', 'once')), side.runs('once')]


def assert_same(both, run):
    expected, found = together(both, run)
    assert found == expected
    for side in both:
        until(side.is_quiet, f'{side.kind} leaves no message behind')


@pytest.mark.parametrize('run', CASES, ids=lambda run: run.__name__)
def test_same(both, run):
    if run.__name__ in SINCE_5_7 and celery.VERSION[:2] < (5, 7):
        pytest.skip('a stock worker of this version leaves it undone')
    assert_same(both, run)


def test_both_on_one_queue(alone):
    """Nothing is lost, and nothing runs twice."""
    pool = alone('pool')
    stock = alone('stock')
    stock.serve_as(pool)
    stock.start()
    pool.start()
    results = [pool.send('shop.sleeps', f'task {n}', 0) for n in range(300)]
    until(lambda: all(result.ready() for result in results), 'all end', 60)
    assert {pool.runs(f'task {n}') for n in range(300)} == {1}
    until(pool.is_quiet, 'no message is left')
    assert AsyncResult(results[0].id, app=pool.app).get() == 'task 0'
