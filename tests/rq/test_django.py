"""Django's tasks over RQ: `django_tasks_rq` and its job class."""

import os

import pytest
from rq import Callback

from support.app import notes

pytestmark = pytest.mark.rq3

CLASS = 'shop.Job'  # Django's own, once Django is set up


@pytest.fixture
def shop(redis):
    """The application, in this process as the producer."""
    import shop
    from django.conf import settings

    settings.RQ_QUEUES['default']['URL'] = os.environ['SUITE_REDIS_URL']
    return shop


def run(work, **options):
    preload = {'preload': 'shop'} if work.target.name == 'pool' else {}
    return work.burst(job_class=CLASS, **preload, **options)


def test_tasks_return_their_values(work, shop):
    found = [shop.add.enqueue(1, b=2), shop.add_later.enqueue(3, 4), shop.attempt.enqueue('x')]
    run(work)
    for result in found:
        result.refresh()
    assert [result.status for result in found] == ['SUCCESSFUL'] * 3
    assert [result.return_value for result in found] == [3, 7, ['x', 1, 'RUNNING']]
    assert all(result.worker_ids and result.started_at <= result.finished_at for result in found)


def test_a_failure_is_kept_with_its_class(work, shop):
    result = shop.fail.enqueue('no luck')
    run(work)
    result.refresh()
    assert result.status == 'FAILED'
    [error] = result.errors
    assert error.exception_class is ValueError and error.traceback.rstrip().endswith('ValueError: no luck')


def test_what_is_no_task_is_refused(work, queue, shop):
    callbacks = {'on_success': Callback('django_tasks_rq.backend.success_callback'), 'on_failure': Callback('django_tasks_rq.backend.failed_callback')}
    job = queue.enqueue(shop.no_task, meta={'backend_name': 'default'}, **callbacks)
    run(work)
    assert job.is_failed and 'SuspiciousOperation' in job.latest_result().exc_string


def test_who_listens_hears_of_each_task(work, shop, redis):
    good, bad = shop.add.enqueue(1, 2), shop.fail.enqueue('no luck')
    run(work, env={'SHOP_LISTENS': '1'})
    assert notes(redis) == [
        f'started {good.id} RUNNING', f'finished {good.id} SUCCESSFUL',
        f'started {bad.id} RUNNING', f'finished {bad.id} FAILED',
    ]  # fmt: skip


def test_the_log_hears_of_each_task(work, shop, redis):
    good, bad = shop.add.enqueue(1, 2), shop.fail.enqueue('no luck')
    run(work, env={'SHOP_LOGS': '1', 'SHOP_COUNTS': '1'})
    assert notes(redis) == [
        f'INFO Task id={good.id} path=shop.add state=RUNNING', f'INFO Task id={good.id} path=shop.add state=SUCCESSFUL',
        f'INFO Task id={bad.id} path=shop.fail state=RUNNING', f'ERROR Task id={bad.id} path=shop.fail state=FAILED',
    ]  # fmt: skip
    performed = {'stock': [good.id, bad.id], 'pool': []}[work.target.name]  # the pool needs no job class for it
    assert redis.lrange('performed', 0, -1) == [job_id.encode() for job_id in performed]


def test_a_task_that_changes_its_job_is_ended_by_rq(work, shop, redis):
    result = shop.keep_longer.enqueue(5000)
    run(work)
    result.refresh()
    assert result.return_value == result.id and 4000 < redis.ttl(f'rq:job:{result.id}') <= 5000


def test_a_timeout_holds_for_a_task(work, shop, redis):
    result = shop.overrun.enqueue()
    redis.hset(f'rq:job:{result.id}', 'timeout', 1)
    run(work)
    result.refresh()
    assert result.status == 'FAILED' and 'JobTimeoutException' in result.errors[0].traceback


def test_a_task_leaves_in_redis_what_it_leaves_with_the_job_class(work, shop, redis):
    """Whether somebody listens or not."""
    states = []
    for env in ({}, {'SHOP_LOGS': '1'}, {'SHOP_LISTENS': '1'}):
        redis.flushall()
        results = [shop.add.enqueue(1, 2), shop.fail.enqueue('no luck')]
        run(work, env=env, name='web')
        states.append([
            {name: redis.hget(f'rq:job:{result.id}', name) for name in ('status', 'meta', 'worker_name', 'result_ttl')}
            | {'keys': len(redis.keys(f'*{result.id}*')), 'ttl': redis.ttl(f'rq:job:{result.id}') > 0}
            for result in results
        ])
        assert redis.hget('rq:worker:web', 'successful_job_count') == redis.hget('rq:worker:web', 'failed_job_count') == b'1'
    assert states[0] == states[1] == states[2]
