"""Batch tasks: those of celery-batches beside the stock worker, and those that `pool_job.batch` marked."""

import json

import pytest

from support.wait import until
from worker.sides import POOL
from worker.stored import result_of

#: A stock worker holds what it gathers back from its prefetch, and so never fills a batch with the usual one.
CONF = {'worker_prefetch_multiplier': 0}


def start(side, *options):
    side.start('-I', 'gather', '-Q', 'celery', *options, ready=False)
    return side


def calls(side, name):
    """What each call got."""
    return [json.loads(each) for each in side.ledger.lrange(name, 0, -1)]


def results(sent):
    return [result.get(timeout=30) for result in sent]


@pytest.fixture
def pair(alone):
    """A stock worker and a pool, on databases of their own."""
    return [start(alone(kind, CONF)) for kind in ('stock', 'pool')]


def test_messages_of_a_batch_task_make_one_call(pair):
    for side in pair:
        sent = [side.send('gather.sums', number, 1) for number in range(12)]
        assert results(sent) == [number + 1 for number in range(12)], side.kind
        until(side.is_quiet, 'all of them are acknowledged')
        sizes = [len(call) for call in calls(side, 'sums')]
        assert sum(sizes) == 12 and sizes[:2] == [5, 5], (side.kind, sizes)


def test_a_request_says_what_it_says_with_celery(pair):
    told = []
    for side in pair:
        sent = [side.app.send_task('gather.described', (number,), {'key': number}) for number in (1, 2)]
        found = results(sent)
        for result, value in zip(sent, found):
            assert value['id'] == value['correlation_id'] == result.id
            value['id'] = value['correlation_id'] = 'id'
        told.append(found)
    assert told[0] == told[1]


def test_a_batch_that_fails_is_acknowledged_and_stores_nothing(pair):
    for side in pair:
        sent = [side.send('gather.fails', number) for number in range(2)]
        until(lambda: calls(side, 'fails') == [2], 'they were called together')
        until(side.is_quiet, 'all of them are acknowledged')
        assert [result_of(side, result) for result in sent] == [None, None], side.kind
        assert 'nobody hears of it' in side.output()


def test_a_late_batch_whose_worker_died_runs_again(alone):
    side = start(alone('pool'))
    sent = [side.send('gather.dies_once', number) for number in range(3)]
    assert results(sent) == [0, 1, 2]
    until(side.is_quiet, 'all of them are acknowledged')
    assert side.runs('dies_once') >= 2


def test_an_early_batch_whose_worker_died_has_failed(alone):
    side = start(alone('pool'))
    sent = [side.send('gather.dies_early', number) for number in range(3)]
    for result in sent:
        assert result.get(timeout=30, propagate=False).__class__.__name__ == 'WorkerLostError'
    until(side.is_quiet, 'nothing is left')


def test_messages_that_are_not_due_come_to_a_batch_when_they_are(alone):
    side = start(alone('pool'))
    sent = [side.app.send_task('gather.sums_late', (number,), countdown=0.5) for number in range(3)]
    assert results(sent) == [0, 1, 2]
    assert [sorted(call) for call in calls(side, 'sums_late')] == [[0, 1, 2]]


def test_a_batch_that_is_not_full_goes_back_when_its_pool_stops(alone):
    side = start(alone('pool'))
    first = side.send('gather.sums', 1, 1)
    assert first.get(timeout=30) == 2
    assert side.stop() == [0]
    waiting = [side.send('gather.sums', number, 1) for number in range(3)]
    start(side)
    assert results(waiting) == [1, 2, 3]


def test_each_message_of_a_marked_function_ends_as_if_it_had_run_alone(alone):
    side = start(alone('pool'))
    linked = side.app.send_task('gather.halves', (8,), {'plus': 1}, link=side.task('add', 10))
    odd, again, even = (side.send('gather.halves', number) for number in (3, 0, 6))
    assert (linked.get(timeout=30), even.get(timeout=30)) == (5, 3)
    until(lambda: linked.children or linked.get() and linked.children, 'the link was called')
    assert linked.children[0].get(timeout=30) == 15
    with pytest.raises(ValueError, match='3 is odd'):
        odd.get(timeout=30)
    error = again.get(timeout=30, propagate=False)
    assert 'MaxRetriesExceeded' in type(error).__name__, error
    assert calls(side, 'halves') == [[8, 3, 0, 6], [0]]
    until(side.is_quiet, 'all of them are acknowledged')


def test_a_marked_function_that_raises_fails_all_of_its_messages(alone):
    side = start(alone('pool'))
    sent = [side.send('gather.unlucky', number) for number in (12, 13, 14)]
    for result in sent:
        with pytest.raises(RuntimeError, match='13'):
            result.get(timeout=30)
    assert calls(side, 'unlucky') == [[12, 13, 14]]


def test_the_bad_message_of_a_batch_is_found_where_that_is_asked_for(alone, tmp_path):
    side = alone('pool')
    config = tmp_path / 'pool.toml'
    config.write_text(
        f'[app]\nruntime = "celery"\npython = "{side.python()}"\n'
        '[celery]\napp = "shop"\ninclude = ["gather"]\n'
        '[pools.default]\nqueues = ["celery"]\nmin_workers = 1\nmax_workers = 1\n'
        '[tasks."gather.unlucky"]\nbatch_split = true\n'
    )
    side.spawn([POOL, 'run', '--config', str(config), '--socket', str(tmp_path / 's')])
    sent = [side.send('gather.unlucky', number) for number in (11, 12, 13, 14)]
    states = [type(result.get(timeout=30, propagate=False)).__name__ for result in sent]
    assert states == ['str', 'str', 'RuntimeError', 'str']
    assert calls(side, 'unlucky')[0] == [11, 12, 13, 14]
