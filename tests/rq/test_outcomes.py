"""What is kept of a job that ended, where, and for how long."""

import time

import pytest
from rq import Queue
from rq.job import JobStatus
from rq.results import Result

import jobs
from support.app import entered
from support.near import near

FOREVER = -1
GONE = -2
YEAR = 31_536_000


def expiry(redis, registry, job):
    """Seconds until the job's entry in the registry expires."""
    return redis.zscore(registry.key, job.id) - time.time()


def test_a_result_is_kept_500_seconds(work, queue, redis):
    job = queue.enqueue(jobs.add, 1, 2)
    work.burst()
    assert job.get_status() == JobStatus.FINISHED
    assert job.return_value() == 3
    assert redis.ttl(job.key) == near(500)
    assert redis.ttl(Result.get_key(job.id)) == near(500)
    assert expiry(redis, queue.finished_job_registry, job) == near(500)


def test_the_worker_may_keep_results_for_another_time(work, queue, redis):
    job = queue.enqueue(jobs.add, 1, 2)
    work.burst(results_ttl=7000)
    assert redis.ttl(job.key) == near(7000)
    assert redis.ttl(Result.get_key(job.id)) == near(7000)
    assert expiry(redis, queue.finished_job_registry, job) == near(7000)


def test_the_job_says_best_how_long(work, queue, redis):
    job = queue.enqueue(jobs.add, 1, 2, result_ttl=900)
    work.burst(results_ttl=7000)
    assert redis.ttl(job.key) == near(900)


def test_a_result_may_be_kept_forever(work, queue, redis):
    job = queue.enqueue(jobs.add, 1, 2, result_ttl=-1)
    work.burst()
    assert redis.ttl(job.key) == FOREVER
    assert redis.ttl(Result.get_key(job.id)) == FOREVER
    assert redis.zscore(queue.finished_job_registry.key, job.id) == float('inf')


def test_nothing_is_kept_of_a_job_whose_result_nobody_wants(work, queue, redis):
    job = queue.enqueue(jobs.add, 1, 2, result_ttl=0)
    work.burst()
    assert redis.exists(job.key, Result.get_key(job.id), queue.finished_job_registry.key) == 0
    assert redis.keys('rq:execution*') == []


def test_none_is_a_result(work, queue):
    job = queue.enqueue(jobs.nothing)
    work.burst()
    assert job.latest_result().type == Result.Type.SUCCESSFUL
    assert job.latest_result().return_value is None


def test_a_value_that_can_not_be_serialized_is_replaced_by_a_text(work, queue):
    job = queue.enqueue(jobs.unpicklable)
    work.burst()
    assert job.is_finished
    assert job.return_value() == 'Unserializable return value'


def test_a_result_says_who_produced_it_and_when(work, queue):
    job = queue.enqueue(jobs.add, 1, 2)
    work.burst(name='web')
    result = job.latest_result()
    job.refresh()
    assert result.worker_name == 'web'
    assert len(result.execution_id) == 32
    assert result.execution_started_at <= job.ended_at
    assert abs((result.execution_ended_at - job.ended_at).total_seconds()) < 0.001
    assert job.enqueued_at <= job.started_at <= job.ended_at


def test_a_failure_is_kept_for_a_year(work, queue, redis):
    job = queue.enqueue(jobs.fail, 'out of paper')
    work.burst()
    assert job.get_status() == JobStatus.FAILED
    result = job.latest_result()
    assert result.type == Result.Type.FAILED
    assert result.exc_string.endswith('ValueError: out of paper\n')
    assert 'jobs.py' in result.exc_string
    assert redis.ttl(job.key) == near(YEAR)
    assert expiry(redis, queue.failed_job_registry, job) == near(YEAR)


def test_the_results_of_a_failed_job_stay_as_long_as_no_time_is_said(work, queue, redis):
    job = queue.enqueue(jobs.fail)
    work.burst()
    assert redis.ttl(Result.get_key(job.id)) == FOREVER


def test_a_failure_may_be_kept_for_another_time(work, queue, redis):
    job = queue.enqueue(jobs.fail, failure_ttl=900)
    work.burst()
    assert redis.ttl(job.key) == near(900)
    assert redis.ttl(Result.get_key(job.id)) == near(900)
    assert expiry(redis, queue.failed_job_registry, job) == near(900)


def test_a_failure_may_be_kept_forever(work, queue, redis):
    job = queue.enqueue(jobs.fail, failure_ttl=-1)
    work.burst()
    assert redis.ttl(job.key) == FOREVER
    assert redis.zscore(queue.failed_job_registry.key, job.id) == -1


def test_a_failed_job_is_requeued(work, queue):
    job = queue.enqueue(jobs.fail_until, 'run', 2)
    work.burst()
    assert job.is_failed
    job.requeue()
    work.burst()
    assert job.is_finished and job.id not in queue.failed_job_registry
    assert [result.type for result in job.results()] == [Result.Type.SUCCESSFUL, Result.Type.FAILED]


def test_an_exception_of_any_shape_is_recorded(work, queue):
    job = queue.enqueue(jobs.fail_oddly)
    work.burst()
    assert "jobs.OddError: (7, 'odd')" in job.latest_result().exc_string


def test_ten_results_are_kept_about(work, queue, redis):
    """The stream is trimmed at 10 entries approximately: Redis drops whole nodes of 100."""
    job = queue.enqueue(jobs.add, 1, 2)
    for _ in range(110):
        redis.xadd(Result.get_key(job.id), {'type': 1})
    work.burst()
    assert Result.count(job) < 100


def test_a_job_that_waited_longer_than_its_ttl_does_not_run(work, queue, redis):
    job = queue.enqueue(jobs.note, 'late', ttl=100)
    assert redis.ttl(job.key) == near(100)
    redis.pexpire(job.key, 1)
    work.burst()
    assert redis.lrange('notes', 0, -1) == [] and redis.ttl(job.key) == GONE


def test_a_running_job_does_not_expire(work, queue, redis):
    job = queue.enqueue(jobs.hold, ttl=100)
    running = work.start()
    entered(redis)
    assert redis.ttl(job.key) == FOREVER
    redis.rpush('gate', 'open')
    assert job.latest_result(timeout=30).return_value == 'released'
    assert redis.ttl(job.key) == near(500)
    running.stop()


def test_a_job_that_takes_too_long_is_interrupted(work, queue, redis):
    job = queue.enqueue(jobs.overrun_and_tidy, job_timeout=1)
    after = queue.enqueue(jobs.add, 1, 2)
    work.burst()
    expected = 'rq.timeouts.JobTimeoutException: Task exceeded maximum timeout value (1 seconds)\n'
    assert job.is_failed and job.latest_result().exc_string.endswith(expected)
    assert redis.lrange('notes', 0, -1) == [b'tidied']
    assert after.is_finished


def test_a_job_without_a_timeout_runs(work, queue):
    job = queue.enqueue(jobs.add, 1, 2, job_timeout=-1)
    work.burst()
    assert job.return_value() == 3


@pytest.mark.slow
def test_a_job_deaf_to_its_timeout_is_killed(work, queue):
    """Stock RQ waits 60 s beyond the timeout before it kills."""
    job = queue.enqueue(jobs.hold_deaf, job_timeout=1)
    work.burst(deadline=120, job_monitoring_interval=5)
    assert job.is_failed and 'Work-horse terminated unexpectedly' in job.latest_result().exc_string


@pytest.mark.parametrize('function, args, how', [(jobs.die, (), 'signal 9'), (jobs.leave, (3,), 'waitpid returned 768')])
def test_a_job_whose_process_dies_has_failed(work, queue, function, args, how):
    job, after = queue.enqueue(function, *args), queue.enqueue(jobs.add, 1, 2)
    work.burst()
    assert job.is_failed and job.id in queue.failed_job_registry
    assert 'Work-horse terminated unexpectedly' in job.latest_result().exc_string
    assert how in job.latest_result().exc_string
    assert after.is_finished


def test_handlers_are_called_in_order_until_one_says_no(work, queue, redis):
    job = queue.enqueue(jobs.fail)
    work.burst(exception_handler=['jobs.handle', 'jobs.handle_and_end', 'jobs.handle'])
    assert redis.lrange('notes', 0, -1) == [f'handle {job.id} ValueError'.encode(), f'end {job.id} ValueError'.encode()]
    assert job.id in queue.failed_job_registry


def test_without_the_default_handler_a_failure_leaves_only_its_status(work, queue):
    job = queue.enqueue(jobs.fail)
    work.burst(exception_handler='jobs.handle', disable_default_exception_handler=True)
    assert job.get_status() == JobStatus.FAILED
    assert job.id not in queue.failed_job_registry
    assert job.results() == []


def test_jobs_of_several_queues_are_filed_under_their_own(work, redis):
    first, second = Queue('first', connection=redis), Queue('second', connection=redis)
    done, broken = first.enqueue(jobs.add, 1), second.enqueue(jobs.fail)
    work.burst('first', 'second')
    assert first.finished_job_registry.get_job_ids() == [done.id] and first.failed_job_registry.count == 0
    assert second.failed_job_registry.get_job_ids() == [broken.id] and second.finished_job_registry.count == 0
