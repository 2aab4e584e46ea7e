"""Runs after the first: retries of failures, retries that a job asks for, repeats."""

import time

import pytest
from rq import Callback, Repeat, Retry
from rq.job import JobStatus
from rq.results import Result

import jobs
from support.near import near


def types(job):
    """Its results, the oldest first."""
    return [result.type for result in reversed(job.results())]


def due_in(redis, queue, job):
    return redis.zscore(queue.scheduled_job_registry.key, job.id) - time.time()


def run_now(queue, job):
    """Does a scheduler's work before its time."""
    queue.scheduled_job_registry.remove(job)
    queue.push_job_id(job.id)


def test_a_failed_job_is_run_again(work, queue):
    job = queue.enqueue(jobs.fail_until, 'run', 3, retry=Retry(max=4))
    work.burst()
    job.refresh()
    assert job.is_finished and job.return_value() == 'at last'
    assert job.retries_left == 2
    assert types(job) == [Result.Type.SUCCESSFUL]


def test_after_its_last_retry_it_has_failed(work, queue, redis):
    job = queue.enqueue(jobs.note_and_fail, 'run', retry=Retry(max=2))
    work.burst()
    job.refresh()
    assert redis.llen('notes') == 3
    assert job.is_failed and job.retries_left == 0
    assert types(job) == [Result.Type.FAILED]


def test_the_wait_before_each_retry(work, queue, redis):
    job = queue.enqueue(jobs.fail, retry=Retry(max=3, interval=[100, 200, 300]))
    for left, wait in ((2, 100), (1, 200), (0, 300)):
        work.burst()
        job.refresh()
        assert job.get_status() == JobStatus.SCHEDULED
        assert job.retries_left == left
        assert due_in(redis, queue, job) == near(wait)
        assert types(job) == []
        run_now(queue, job)
    work.burst()
    assert job.is_failed


def test_retries_may_go_to_the_front(work, queue, redis):
    queue.enqueue(jobs.note_and_fail, 'first', retry=Retry(max=1, enqueue_at_front=True))
    queue.enqueue(jobs.note, 'second')
    work.burst()
    assert redis.lrange('notes', 0, -1) == [b'first', b'first', b'second']


def test_retries_go_to_the_back(work, queue, redis):
    queue.enqueue(jobs.note_and_fail, 'first', retry=Retry(max=1))
    queue.enqueue(jobs.note, 'second')
    work.burst()
    assert redis.lrange('notes', 0, -1) == [b'first', b'second', b'first']


def test_a_job_whose_process_dies_is_run_again(work, queue):
    job = queue.enqueue(jobs.die, retry=Retry(max=1))
    work.burst()
    job.refresh()
    assert job.is_failed and job.retries_left == 0


def test_a_timeout_is_retried(work, queue):
    job = queue.enqueue(jobs.overrun, job_timeout=1, retry=Retry(max=1, interval=100))
    work.burst()
    job.refresh()
    assert job.get_status() == JobStatus.SCHEDULED and job.retries_left == 0


def test_a_retried_failure_counts_as_failed(work, queue, redis):
    queue.enqueue(jobs.fail_until, 'run', 3, retry=Retry(max=4))
    work.burst(name='web')
    assert redis.hget('rq:worker:web', 'failed_job_count') == b'2'
    assert redis.hget('rq:worker:web', 'successful_job_count') == b'1'


def test_a_job_asks_to_be_run_again(work, queue, redis):
    job = queue.enqueue(jobs.ask_retry, 2)
    work.burst(name='web')
    job.refresh()
    assert redis.llen('notes') == 3
    assert job.is_failed and job.number_of_retries == 2
    assert types(job) == [Result.Type.RETRIED, Result.Type.RETRIED, Result.Type.MAX_RETRIES_EXCEEDED]
    assert job.id in queue.failed_job_registry
    assert redis.hget('rq:worker:web', 'failed_job_count') == b'3'


def test_a_job_asks_to_be_run_again_later(work, queue, redis):
    job = queue.enqueue(jobs.ask_retry, 2, [100, 200])
    work.burst()
    job.refresh()
    assert job.get_status() == JobStatus.SCHEDULED and job.number_of_retries == 1
    assert due_in(redis, queue, job) == near(100)
    assert job.latest_result().return_value.max == 2


#: Who ends a job that raises: the broker, the broker behind the callbacks of RQ's job object, RQ's own code.
ENDED_BY = {
    'broker': ('asks.ask_again', {}),
    'performer': ('asks.ask_again', {'on_failure': Callback(jobs.failed)}),
    'changed': ('asks.change_and_ask_again', {}),
    'rq': ('asks.ask_again', {'repeat': Repeat(times=1)}),
}


@pytest.mark.pool
@pytest.mark.parametrize('function, options', ENDED_BY.values(), ids=ENDED_BY)
def test_the_retry_of_the_pool_chooses_the_wait(work, queue, redis, function, options):
    job = queue.enqueue(function, 100, retry=Retry(max=1, interval=1000), **options)
    work.burst(preload='asks')
    job.refresh()
    assert job.get_status() == JobStatus.SCHEDULED and job.retries_left == 0
    assert due_in(redis, queue, job) == near(100)
    run_now(queue, job)
    work.burst(preload='asks')
    assert job.get_status() == JobStatus.FAILED
    assert 'the site is busy' in job.latest_result().exc_string


@pytest.mark.pool
@pytest.mark.parametrize('options', [{}, {'on_failure': Callback(jobs.failed)}, {'repeat': Repeat(times=1)}], ids=['broker', 'performer', 'rq'])
def test_the_exception_of_a_timeout_is_also_the_pools(work, queue, redis, options):
    job = queue.enqueue('asks.outlast', job_timeout=1, **options)
    work.burst(preload='asks')
    assert b'caught' in redis.lrange('notes', 0, -1)
    assert job.latest_result().exc_string.splitlines()[-1].startswith('rq.timeouts.JobTimeoutException: Task exceeded')


@pytest.mark.rq3
def test_a_job_asks_to_be_run_again_at_once(work, queue, redis):
    queue.enqueue(jobs.ask_retry, 1, 0, True)
    queue.enqueue(jobs.note, 'second')
    work.burst()
    assert redis.lrange('notes', 0, -1) == [b'asked', b'asked', b'second']


def test_a_job_that_asks_has_not_succeeded(work, queue, redis):
    queue.enqueue(jobs.ask_retry, 1, on_success=Callback(jobs.succeeded))
    work.burst()
    assert redis.lrange('notes', 0, -1) == [b'asked', b'asked']


def test_a_job_repeats_at_once(work, queue, redis):
    job = queue.enqueue(jobs.note, 'run', 'result', repeat=Repeat(times=2))
    work.burst()
    job.refresh()
    assert redis.llen('notes') == 3
    assert job.is_finished and job.repeats_left == 0
    assert types(job) == [Result.Type.SUCCESSFUL] * 3
    assert redis.ttl(job.key) == near(500)


@pytest.mark.rq3
def test_a_job_repeats_after_its_intervals(work, queue, redis):
    job = queue.enqueue(jobs.note, 'run', repeat=Repeat(times=3, interval=[100, 200]))
    for left, wait in ((2, 100), (1, 200), (0, 200)):
        work.burst()
        job.refresh()
        assert job.get_status() == JobStatus.SCHEDULED and job.repeats_left == left
        assert due_in(redis, queue, job) == near(wait)
        assert redis.ttl(job.key) == -1
        run_now(queue, job)
    work.burst()
    assert job.is_finished and types(job) == [Result.Type.SUCCESSFUL] * 4


def test_a_failure_ends_the_repeats(work, queue, redis):
    job = queue.enqueue(jobs.note_and_fail, 'run', repeat=Repeat(times=2))
    work.burst()
    job.refresh()
    assert redis.llen('notes') == 1
    assert job.is_failed and job.repeats_left == 2


def test_meta_saved_by_a_run_is_there_in_the_next(work, queue):
    job = queue.enqueue(jobs.save_meta, progress=50, meta={'owner': 'Ann'}, repeat=Repeat(times=1))
    work.burst()
    assert job.get_meta() == {'owner': 'Ann', 'progress': 50}
