"""What kombu's options of the Redis transport mean for a worker: stock and pool do the same."""

import json

import pytest

from support.wait import until
from worker.stored import result_of

pytestmark = pytest.mark.over('redis')

PREFIX = {
    'broker_transport_options': {'global_keyprefix': 'shop:'},
    'result_backend_transport_options': {'global_keyprefix': 'results:'},
}


@pytest.mark.parametrize('kind', ['stock', 'pool'])
def test_the_smallest_priority_goes_first(alone, kind):
    side = alone(kind)
    side.start('--disable-prefetch', workers=1)
    side.send('shop.sleeps', 'first', 1)
    until(lambda: side.runs('first'), 'it runs')
    for priority in (9, 5, 0, 3, 6):
        side.send('shop.linked', priority, 'order', priority=priority)
    until(lambda: side.ledger.llen('order') == 5, 'all run')
    order = [json.loads(value) for value in side.ledger.lrange('order', 0, -1)]
    # 5 stands in the list of 3: the one that came first is first.
    assert order == [0, 5, 3, 6, 9]
    until(side.is_quiet, 'no message is left')


@pytest.mark.parametrize('kind', ['stock', 'pool'])
def test_keys_begin_with_the_prefixes(alone, kind):
    side = alone(kind, PREFIX)
    side.start()
    result = side.send('shop.add', 1, 2)
    assert result.get(timeout=30) == 3
    keys = {key.decode() for key in side.redis.keys('*')}
    assert all(key.startswith(('shop:', 'results:', 'results_')) for key in keys - {'pool_celery_handles'}), keys
    assert any(key.endswith(f'celery-task-meta-{result.id}') for key in keys), keys


def test_a_late_task_beyond_the_visibility_timeout_runs_once(alone):
    """A stock worker that starts meanwhile puts back what is older; nothing is."""
    conf = {'broker_transport_options': {'visibility_timeout': 2}}
    side = alone('pool', conf)
    side.start('-Q', 'celery')
    long = side.send('shop.sleeps_late', 'long', 6)
    later = side.send('shop.sleeps', 'eta', 0, countdown=6)
    until(lambda: side.runs('long'), 'it runs')
    until(lambda: side.redis.zcard('unacked_index') == 2, 'both are held')
    begun = {tag: score for tag, score in side.redis.zrange('unacked_index', 0, -1, withscores=True)}
    until(lambda: min(side.redis.zmscore('unacked_index', list(begun))) > min(begun.values()), 'what is held is extended')
    stock = alone('stock', conf)
    stock.serve_as(side)
    stock.start('-Q', 'mail', ready=False)
    until(lambda: b'_kombu.binding.mail' in side.redis.keys('_kombu.binding.*'), 'it is there', 60)
    until(lambda: long.ready() and later.ready(), 'both end')
    assert (side.runs('long'), side.runs('eta')) == (1, 1)
    assert result_of(side, long)['status'] == 'SUCCESS'
    until(side.is_quiet, 'no message is left')
