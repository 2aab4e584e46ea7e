"""What is tidied up at the start and from time to time: the remains of workers that died."""

import json
import signal
import time

import pytest
from rq import Callback, Retry, Worker
from rq.executions import Execution
from rq.job import Dependency, JobStatus
from rq.registry import StartedJobRegistry
from rq.results import Result
from rq.webhook import Webhook

import jobs
from support.app import entered
from support.versions import RateLimit
from support.wait import until

PAST = 1_000_000_000


@pytest.fixture
def abandoned(work, queue, redis):
    """A job whose worker was killed so long ago that its execution has expired."""

    def abandon(**options):
        job = queue.enqueue(jobs.hold, **options)
        running = work.start(name='killed')
        entered(redis)
        running.kill()
        # Else the server would give the next element of the list `gate` to a job that is dead.
        until(lambda: redis.info('clients')['blocked_clients'] == 0, 'nobody waits any more')
        expire_executions(redis, job)
        return job

    return abandon


def expire_executions(redis, job):
    for member in redis.zrange('rq:wip:default', 0, -1):
        redis.zadd('rq:wip:default', {member: PAST})
        redis.delete(f'rq:execution:{member.decode()}')


@pytest.mark.rq3
def test_an_abandoned_job_has_failed(work, queue, redis, abandoned):
    job = abandoned(on_failure=Callback(jobs.failed))
    assert job.is_started
    work.burst(exception_handler='jobs.handle')
    result = job.latest_result()
    assert job.is_failed and job.id in queue.failed_job_registry
    assert 'Moved to FailedJobRegistry, due to AbandonedJobError' in result.exc_string
    assert result.worker_name == ''
    assert redis.lrange('notes', 0, -1) == [
        f'failure {job.id} AbandonedJobError  False'.encode(),
        f'handle {job.id} AbandonedJobError'.encode(),
    ]
    assert redis.exists('rq:wip:default') == 0


@pytest.mark.rq3
def test_an_abandoned_job_has_failed_though_its_callback_raises(work, queue, redis, abandoned):
    job = abandoned(on_failure=Callback(jobs.raise_in_callback))
    work.burst()
    assert job.is_failed and 'AbandonedJobError' in job.latest_result().exc_string
    assert redis.lrange('notes', 0, -1) == [f'raising {job.id}'.encode()]


@pytest.mark.rq3
def test_a_webhook_is_called_for_an_abandoned_job(work, queue, redis, abandoned, endpoint):
    job = abandoned(webhooks=[Webhook(f'{endpoint.url}/failed', 'failed', method='POST')])
    work.burst()
    [(method, path, _, body)] = endpoint.requests
    assert (method, path) == ('POST', '/failed')
    told = json.loads(body)
    assert told['job_id'] == job.id and 'AbandonedJobError' in told['exc_info']


@pytest.mark.rq3
def test_an_abandoned_job_frees_its_slot(work, queue, redis, abandoned):
    job = abandoned(rate_limit=RateLimit('key', 1))
    other = queue.enqueue(jobs.add, 1, 2, rate_limit=RateLimit('key', 1))
    assert other.get_status() == JobStatus.RATE_LIMITED
    work.burst()
    assert job.is_failed and other.return_value() == 3


def test_an_abandoned_job_is_run_again_if_it_may(work, queue, redis, abandoned):
    job = abandoned(retry=Retry(max=1))
    redis.rpush('gate', 'open')
    work.burst()
    job.refresh()
    assert job.return_value() == 'released' and job.retries_left == 0


def test_an_abandoned_job_releases_dependents_that_allow_it(work, queue, abandoned):
    job = abandoned()
    child = queue.enqueue(jobs.add, 1, 2, depends_on=Dependency(jobs=job, allow_failure=True))
    work.burst()
    assert child.return_value() == 3


def test_a_job_whose_worker_lives_is_left_alone(work, queue, redis):
    job = queue.enqueue(jobs.hold)
    running = work.start()
    entered(redis)
    work.burst()
    assert job.is_started
    redis.rpush('gate', 'open')
    assert job.latest_result(timeout=30).return_value == 'released'
    running.stop()


@pytest.mark.rq3
def test_remains_of_a_finished_job_are_removed_quietly(work, queue, redis):
    job = queue.enqueue(jobs.add, 1, 2)
    work.burst()
    redis.zadd('rq:wip:default', {f'{job.id}:{"0" * 32}': PAST})
    work.burst()
    assert job.is_finished and redis.exists('rq:wip:default') == 0


@pytest.mark.parametrize('registry', ['finished', 'failed'])
def test_expired_entries_leave_the_registries(work, queue, redis, registry):
    redis.zadd(f'rq:{registry}:default', {'old': PAST, 'new': time.time() + 100})
    work.burst()
    assert redis.zrange(f'rq:{registry}:default', 0, -1) == [b'new']


@pytest.mark.rq3
def test_jobs_that_were_ready_are_enqueued(work, queue, redis):
    """Their parent's worker died between its transaction and the enqueueing."""
    parent = queue.enqueue(jobs.add, 1, 1)
    job = queue.enqueue(jobs.add, 1, 2, depends_on=parent)
    redis.zrem('rq:deferred:default', job.id)
    redis.hset(job.key, 'status', JobStatus.READY_TO_ENQUEUE.value)
    redis.zadd('rq:ready:default', {job.id: time.time()})
    redis.delete(queue.key)
    work.burst()
    assert job.return_value() == 3 and redis.exists('rq:ready:default') == 0


def test_workers_that_vanished_are_forgotten(work, queue, redis):
    redis.sadd('rq:workers', 'rq:worker:vanished')
    redis.sadd('rq:workers:default', 'rq:worker:vanished')
    work.burst()
    assert redis.smembers('rq:workers') == redis.smembers('rq:workers:default') == set()


def stuck(queue, redis, job, seconds):
    """Puts a job where a worker that died between dequeue and start leaves it."""
    redis.delete(queue.key)
    redis.rpush(queue.intermediate_queue_key, job.id)
    if seconds:
        redis.set(queue.intermediate_queue.get_first_seen_key(job.id), time.time() - seconds)


def test_a_job_stuck_between_queue_and_worker_has_failed(work, queue, redis):
    job = queue.enqueue(jobs.add, 1, 2)
    stuck(queue, redis, job, 61)
    work.burst(name='web')
    result = job.latest_result()
    assert job.is_failed and result.exc_string == 'Job was stuck in intermediate queue.'
    assert result.worker_name == 'web' and result.execution_id is None
    assert queue.intermediate_queue.get_job_ids() == []


def test_a_stuck_job_is_run_again_if_it_may(work, queue, redis):
    job = queue.enqueue(jobs.add, 1, 2, retry=Retry(max=1))
    stuck(queue, redis, job, 61)
    work.burst()
    assert job.return_value() == 3 and queue.intermediate_queue.get_job_ids() == []


def test_a_stuck_job_is_given_a_minute(work, queue, redis):
    job = queue.enqueue(jobs.add, 1, 2)
    stuck(queue, redis, job, 0)
    work.burst()
    first_seen = queue.intermediate_queue.get_first_seen_key(job.id)
    assert queue.intermediate_queue.get_job_ids() == [job.id] and job.is_queued
    assert 86_000 < redis.ttl(first_seen) <= 86_400


def test_a_stuck_id_whose_hash_is_gone_is_removed(work, queue, redis):
    redis.rpush(queue.intermediate_queue_key, 'gone')
    work.burst()
    assert queue.intermediate_queue.get_job_ids() == []


def test_a_worker_killed_before_the_start_loses_nothing(work, queue, redis):
    """The id stays in the intermediate queue until the job has started."""
    job = queue.enqueue(jobs.add, 1, 2)
    redis.lmove(queue.key, queue.intermediate_queue_key)
    redis.set(queue.intermediate_queue.get_first_seen_key(job.id), time.time() - 61)
    work.burst()
    assert job.is_failed
    job.requeue()
    work.burst()
    assert job.return_value(refresh=True) == 3


def test_one_worker_maintains_a_queue(work, queue, redis):
    redis.set('rq:clean_registries:default', 1, ex=899)
    redis.zadd('rq:finished:default', {'old': PAST})
    work.burst()
    assert redis.zcard('rq:finished:default') == 1 and redis.exists('rq:clean_registries:default')


@pytest.mark.rq3
def test_the_lock_of_the_maintenance_is_given_back(work, redis):
    work.burst()
    assert redis.exists('rq:clean_registries:default') == 0
    assert 0 < redis.ttl('rq:clean_groups') <= 599


def test_maintenance_comes_again(work, queue, redis):
    """It is due after its interval, whenever the worker turns to its queues again."""
    running = work.start(maintenance_interval=1, worker_ttl=16)
    redis.zadd('rq:finished:default', {'old': PAST})
    until(lambda: redis.zcard('rq:finished:default') == 0, 'the registry is trimmed')
    running.stop()


@pytest.mark.pool
def test_a_job_that_takes_its_supervisor_down_is_run_three_times_at_most(work, queue, redis):
    """It ends its supervisor before anybody can note that it has begun; those that were taken with it are not to blame."""
    job = queue.enqueue(jobs.end_supervisor)
    others = [queue.enqueue(jobs.add, number, 1) for number in range(5)]
    runs = 0
    while runs < 3:
        running = work.launch()
        [supervisor] = running.processes
        until(lambda: supervisor.poll() is not None or job.is_failed, 'the supervisor is gone, or the job is not run again')
        if job.is_failed:
            break  # it was noted in time that it had begun
        runs += 1
        until(lambda: redis.info('clients')['connected_clients'] <= 2, 'its workers are gone')
        assert supervisor.returncode == -signal.SIGKILL and redis.llen('entered') == runs
        claims = redis.zrange('rq:wip:default', 0, -1, withscores=True)
        # It may be noted just before the end; then RQ's own housekeeping knows that it is abandoned.
        was_noted = any(member.startswith(job.id.encode()) and score % 1 == 0 for member, score in claims)
        for member, score in claims:
            redis.zadd('rq:wip:default', {member: PAST + score % 1})
    else:
        running = work.launch()
        until(lambda: job.is_failed, 'the job is not run again')
        assert was_noted or 'supervisors died with this job in hand' in running.output()
    until(lambda: all(other.is_finished for other in others), 'the others have run')
    running.stop()
    assert redis.llen('entered') == runs and [other.return_value() for other in others] == [1, 2, 3, 4, 5]
    assert not redis.hexists(others[0].key, 'pool_returned')
