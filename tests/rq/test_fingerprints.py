"""What is left behind in Redis, field by field: the worker under test against stock RQ.

Each story is told twice, once with either worker, and the two states must be equal. With stock RQ under
test it is held against itself, which shows that nothing is compared that differs by chance.
"""

import time
from datetime import datetime, timezone

import pytest
from rq import Callback, Queue, Repeat, Retry
from rq.command import send_kill_horse_command, send_stop_job_command
from rq.group import Group
from rq.job import Dependency
from rq.webhook import Webhook

import jobs
from support.app import entered
from support.fingerprint import differences, fingerprint
from support.versions import RateLimit
from support.wait import until
from support.worker import Stock, Work

PAST = datetime(2020, 1, 1, tzinfo=timezone.utc)


def one(function, *args, worker=None, **options):
    """The story of one job and one burst."""

    def story(work, redis, queue):
        queue.enqueue(function, *args, job_id='job', **options)
        work.burst(name='web', **(worker or {}))

    return story


def success_of_every_field(work, redis, queue):
    queue.enqueue(
        jobs.add,
        args=(1,),
        kwargs={'b': 2},
        job_id='job',
        description='adds',
        meta={'owner': 'Ann'},
        ttl=5000,
        failure_ttl=6000,
        result_ttl=7000,
        job_timeout=100,
        retry=Retry(max=3, interval=[10, 20], enqueue_at_front=True),
        on_success=Callback(jobs.succeeded, timeout=10),
        on_failure=Callback(jobs.failed, timeout=20),
        on_stopped=Callback(jobs.stopped, timeout=30),
        webhooks=[Webhook('http://127.0.0.1:1/', 'finished')],
    )
    work.burst(name='web')


def success_in_one_of_two_queues(work, redis, queue):
    queue.enqueue(jobs.add, 1, 2, job_id='job')
    work.burst('high', 'default', name='web')


def several_jobs(work, redis, queue):
    for number in range(5):
        queue.enqueue(jobs.add, number, job_id=f'job{number}')
    queue.enqueue(jobs.fail, job_id='broken')
    work.burst(name='web')


def success_in_json(work, redis, queue):
    Queue(connection=redis, serializer='json').enqueue(jobs.save_meta, job_id='job', meta={'owner': 'Ann'}, progress=1)
    work.burst(name='web', serializer='json')


def failure_that_was_requeued(work, redis, queue):
    job = queue.enqueue(jobs.fail_until, 'run', 2, job_id='job')
    work.burst(name='web')
    job.requeue()
    work.burst(name='web')


def a_dependent_of_a_success(work, redis, queue):
    parent = queue.enqueue(jobs.add, 1, 2, job_id='parent')
    queue.enqueue(jobs.add, 1, 2, job_id='child', depends_on=parent)
    work.burst(name='web')


def a_dependent_of_two_in_another_queue(work, redis, queue):
    other = Queue('other', connection=redis)
    parents = [queue.enqueue(jobs.add, 1, 2, job_id='parent'), other.enqueue(jobs.add, 1, 2, job_id='not-run')]
    other.enqueue(jobs.add, 1, 2, job_id='waits', depends_on=parents)
    other.enqueue(jobs.add, 1, 2, job_id='goes', depends_on=parents[:1])
    work.burst(name='web')


def dependents_of_a_failure(work, redis, queue):
    parent = queue.enqueue(jobs.fail, job_id='parent')
    queue.enqueue(jobs.add, 1, 2, job_id='strict', depends_on=parent)
    queue.enqueue(jobs.add, 1, 2, job_id='lenient', depends_on=Dependency(jobs=parent, allow_failure=True))
    work.burst(name='web')


def a_dependent_of_a_canceled_job(work, redis, queue):
    parent = queue.enqueue(jobs.add, 1, 2, job_id='parent')
    queue.enqueue(jobs.add, 1, 2, job_id='child', depends_on=parent)
    parent.cancel()
    work.burst(name='web')


def scheduled(work, redis, queue):
    queue.enqueue_at(PAST, jobs.add, 1, 2, job_id='job')
    work.burst(name='web', with_scheduler=True)


def scheduled_and_retried_later(work, redis, queue):
    queue.enqueue_at(PAST, jobs.fail, job_id='job', retry=Retry(max=2, interval=1000))
    work.burst(name='web', with_scheduler=True)


def rate_limited(work, redis, queue):
    for name in ('first', 'second', 'third'):
        function = jobs.fail if name == 'second' else jobs.note
        queue.enqueue(function, name, job_id=name, rate_limit=RateLimit('api', 1))
    work.burst(name='web')


def grouped(work, redis, queue):
    group = Group.create(connection=redis, name='batch')
    group.enqueue_many(
        queue,
        [
            Queue.prepare_data(jobs.add, args=(1, 2), job_id='kept'),
            Queue.prepare_data(jobs.add, args=(1, 2), job_id='gone', result_ttl=0),
        ],
    )
    work.burst(name='web')


def stuck_between_queue_and_worker(work, redis, queue):
    job = queue.enqueue(jobs.add, 1, 2, job_id='job')
    redis.lmove(queue.key, queue.intermediate_queue_key)
    redis.set(queue.intermediate_queue.get_first_seen_key(job.id), time.time() - 61, ex=80_000)
    work.burst(name='web')


def abandoned(work, redis, queue, **options):
    queue.enqueue(jobs.hold, job_id='job', **options)
    running = work.start(name='killed')
    entered(redis)
    running.kill()
    for member in redis.zrange('rq:wip:default', 0, -1):
        redis.zadd('rq:wip:default', {member: 1_000_000_000})
    work.burst(name='web')


def abandoned_and_retried_later(work, redis, queue):
    abandoned(work, redis, queue, retry=Retry(max=1, interval=1000))


def maintained(work, redis, queue):
    redis.zadd('rq:finished:default', {'old': 1_000_000_000})
    redis.sadd('rq:workers', 'rq:worker:vanished')
    redis.sadd('rq:workers:default', 'rq:worker:vanished')
    redis.rpush(queue.intermediate_queue_key, 'gone')
    job = queue.enqueue(jobs.add, 1, 2, job_id='seen')
    redis.lmove(queue.key, queue.intermediate_queue_key, 'LEFT', 'RIGHT')
    work.burst(name='web')
    assert redis.exists(queue.intermediate_queue.get_first_seen_key(job.id))


def idle(work, redis, queue, **options):
    work.start(name='web', **options)
    until(lambda: redis.exists('rq:clean_groups'), 'the first maintenance is over')
    until(lambda: redis.hget('rq:worker:web', 'state') == b'idle', 'the worker is idle')


def running(work, redis, queue):
    queue.enqueue(jobs.hold, job_id='job', job_timeout=600)
    work.start(name='web')
    entered(redis)


def running_with_heartbeats(work, redis, queue):
    job = queue.enqueue(jobs.hold, job_id='job')
    work.start(name='web', job_monitoring_interval=1)
    entered(redis)
    beat = redis.hget(job.key, 'last_heartbeat')
    until(lambda: redis.hget(job.key, 'last_heartbeat') != beat, 'a heartbeat')


def with_scheduler(work, redis, queue):
    idle(work, redis, queue, with_scheduler=True)
    until(lambda: redis.keys('rq:scheduler:*'), 'the scheduler is registered')


def commanded(command):
    """The story of a job that a command ends while it runs."""

    def story(work, redis, queue):
        options = {'on_stopped': Callback(jobs.stopped), 'on_failure': Callback(jobs.failed)}
        job = queue.enqueue(jobs.hold, job_id='job', **options)
        running = work.start(name='web')
        entered(redis)
        command(redis)
        job.latest_result(timeout=30)
        until(lambda: redis.hget('rq:worker:web', 'state') == b'idle', 'the worker is idle')
        running.stop()

    return story


STORIES = {
    'success': one(jobs.add, 1, 2),
    'success of every field': success_of_every_field,
    'success in one of two queues': success_in_one_of_two_queues,
    'success in JSON': success_in_json,
    'success without a result': one(jobs.nothing),
    'success kept forever': one(jobs.add, 1, 2, result_ttl=-1),
    'success kept not at all': one(jobs.add, 1, 2, result_ttl=0),
    'success kept for the time of the worker': one(jobs.add, 1, 2, worker={'results_ttl': 7000}),
    'success with meta saved': one(jobs.save_meta, meta={'owner': 'Ann'}, progress=1),
    'success that can not be serialized': one(jobs.unpicklable),
    'several jobs': several_jobs,
    'success callback that raises': one(jobs.add, 1, 2, on_success=Callback(jobs.raise_in_callback)),
    'failure': one(jobs.fail),
    'failure kept for a time': one(jobs.fail, failure_ttl=900),
    'failure kept forever': one(jobs.fail, failure_ttl=-1),
    'failure with meta saved': one(jobs.save_meta_and_fail, meta={'owner': 'Ann'}, progress=1),
    'failure without the default handler': one(jobs.fail, worker={'disable_default_exception_handler': True}),
    'failure that was requeued': failure_that_was_requeued,
    'failure of a missing function': one('jobs.absent'),
    'retried and succeeded': one(jobs.fail_until, 'run', 2, retry=Retry(max=2)),
    'retried later': one(jobs.fail, retry=Retry(max=2, interval=1000)),
    'retried in vain': one(jobs.fail, retry=Retry(max=2)),
    'asks for a retry later': one(jobs.ask_retry, 2, 1000),
    'asks for retries in vain': one(jobs.ask_retry, 2),
    'timeout': one(jobs.overrun, job_timeout=1),
    'death': one(jobs.die),
    'death retried later': one(jobs.die, retry=Retry(max=1, interval=1000)),
    'stopped': commanded(lambda redis: send_stop_job_command(redis, 'job')),
    'killed by command': commanded(lambda redis: send_kill_horse_command(redis, 'web')),
    'abandoned': abandoned,
    'abandoned and retried later': abandoned_and_retried_later,
    'stuck between queue and worker': stuck_between_queue_and_worker,
    'a dependent of a success': a_dependent_of_a_success,
    'a dependent of two in another queue': a_dependent_of_two_in_another_queue,
    'dependents of a failure': dependents_of_a_failure,
    'a dependent of a canceled job': a_dependent_of_a_canceled_job,
    'repeated at once': one(jobs.note, 'run', repeat=Repeat(times=2)),
    'repeated later': one(jobs.note, 'run', repeat=Repeat(times=3, interval=[1000, 2000])),
    'scheduled': scheduled,
    'scheduled and retried later': scheduled_and_retried_later,
    'rate limited': rate_limited,
    'grouped': grouped,
    'maintained': maintained,
    'idle': idle,
    'running': running,
    'running with heartbeats': running_with_heartbeats,
    'with scheduler': with_scheduler,
}


def told(story, target, server, redis):
    """The state after a story, and of the same story's workers nothing else."""
    redis.flushall()
    work = Work(target, server)
    try:
        story(work, redis, Queue(connection=redis))
        return fingerprint(redis)
    finally:
        work.close()


@pytest.mark.rq3
@pytest.mark.compared
@pytest.mark.parametrize('name', STORIES)
def test_the_state_left_behind_is_that_of_stock_rq(name, target, server, redis):
    expected = told(STORIES[name], Stock(), server, redis)
    found = told(STORIES[name], target, server, redis)
    different = list(differences(expected, found))
    assert not different, '\n'.join(different)


def test_a_difference_is_found(server, redis):
    """The comparison itself: each kind of deviation has its line."""
    job = Queue(connection=redis).enqueue(jobs.add, 1, 2, job_id='job')
    before = fingerprint(redis)
    redis.hset(job.key, 'status', 'finished')
    redis.expire(job.key, 60)
    redis.rpush('rq:queue:default', 'job')
    redis.sadd('rq:queues', 'rq:queue:other')
    found = list(differences(before, fingerprint(redis)))
    assert [line.split(':  ')[0] for line in found] == [
        " rq:job:job ttl: None in the first, about 60 in the second",
        " rq:job:job value status: 'queued' in the first, 'finished' in the second",
        " rq:queue:default value: ['job'] in the first, ['job', 'job'] in the second",
        " rq:queues value: ['rq:queue:default'] in the first, ['rq:queue:default', 'rq:queue:other'] in the second",
    ]
