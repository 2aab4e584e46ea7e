"""Jobs that wait for jobs, groups of jobs, jobs that may not run twice or all at once."""

import pytest
from rq import Queue
from rq.exceptions import DuplicateJobError
from rq.group import Group
from rq.job import Dependency, JobStatus, Retry

import jobs
from support.app import entered, notes
from support.versions import RateLimit, RateLimitRegistry
from support.wait import until


def test_a_dependent_runs_after_its_parent(work, queue, redis):
    parent = queue.enqueue(jobs.note, 'parent')
    child = queue.enqueue(jobs.note, 'child', depends_on=parent)
    grandchild = queue.enqueue(jobs.note, 'grandchild', depends_on=child)
    assert grandchild.get_status() == JobStatus.DEFERRED
    work.burst()
    assert notes(redis) == ['parent', 'child', 'grandchild']
    assert queue.deferred_job_registry.count == 0 and redis.zcard('rq:ready:default') == 0


def test_a_dependent_waits_for_all_its_parents(work, queue, redis):
    parents = [queue.enqueue(jobs.note, 'parent') for _ in range(3)]
    queue.enqueue(jobs.note, 'child', depends_on=parents)
    work.burst()
    assert notes(redis) == ['parent', 'parent', 'parent', 'child']


def test_a_dependent_of_a_failed_job_waits(work, queue, redis):
    parent = queue.enqueue(jobs.note_and_fail, 'parent')
    child = queue.enqueue(jobs.note, 'child', depends_on=parent)
    work.burst()
    assert notes(redis) == ['parent']
    assert child.get_status() == JobStatus.DEFERRED and child.id in queue.deferred_job_registry


def test_it_runs_once_the_parent_was_requeued_and_succeeds(work, queue):
    parent = queue.enqueue(jobs.fail_until, 'run', 2)
    child = queue.enqueue(jobs.add, 1, 2, depends_on=parent)
    work.burst()
    parent.requeue()
    work.burst()
    assert child.return_value() == 3


@pytest.mark.parametrize('function', [jobs.fail, jobs.die])
def test_a_dependent_may_allow_its_parent_to_fail(work, queue, function):
    parent = queue.enqueue(function)
    child = queue.enqueue(jobs.add, 1, 2, depends_on=Dependency(jobs=parent, allow_failure=True))
    work.burst()
    assert parent.is_failed and child.return_value() == 3


def test_a_retried_failure_releases_nobody(work, queue):
    parent = queue.enqueue(jobs.fail, retry=Retry(max=1, interval=100))
    child = queue.enqueue(jobs.add, 1, 2, depends_on=Dependency(jobs=parent, allow_failure=True))
    work.burst()
    assert child.get_status() == JobStatus.DEFERRED


def test_a_canceled_parent_holds_its_dependents(work, queue):
    canceled, other = queue.enqueue(jobs.add, 1, 1), queue.enqueue(jobs.add, 2, 2)
    child = queue.enqueue(jobs.add, 1, 2, depends_on=Dependency(jobs=[canceled, other], allow_failure=True))
    canceled.cancel()
    work.burst()
    assert other.is_finished and child.get_status() == JobStatus.DEFERRED


def test_a_canceled_dependent_does_not_run(work, queue, redis):
    parent = queue.enqueue(jobs.note, 'parent')
    child = queue.enqueue(jobs.note, 'child', depends_on=parent)
    child.cancel()
    work.burst()
    assert notes(redis) == ['parent'] and child.get_status() == JobStatus.CANCELED


@pytest.mark.pool
def test_a_dependent_that_went_is_not_found_again_by_a_slower_worker(work, queue, redis):
    """RQ writes that a job failed, and then looks who waits for it; meanwhile another parent may let it go."""
    slow, other = queue.enqueue(jobs.fail), queue.enqueue(jobs.add, 1, 1)
    queue.enqueue(jobs.note, 'child', depends_on=Dependency(jobs=[slow, other], allow_failure=True))
    queue.remove(slow)
    slow.set_status(JobStatus.FAILED)
    work.burst()
    queue.enqueue_dependents(slow)
    work.burst()
    assert notes(redis) == ['child']


@pytest.mark.rq3
def test_a_dependent_with_a_rate_limit_waits_for_its_turn(work, queue, redis):
    parent = queue.enqueue(jobs.note, 'parent')
    queue.enqueue(jobs.note, 'child', depends_on=parent, rate_limit=RateLimit('api', 1))
    work.burst()
    assert notes(redis) == ['parent', 'child']
    assert queue.deferred_job_registry.count == 0


def test_a_job_that_was_canceled_while_it_ran_wakes_nobody(work, queue, redis):
    parent = queue.enqueue(jobs.hold)
    child = queue.enqueue(jobs.add, 1, 2, depends_on=parent)
    running = work.start()
    entered(redis)
    parent.cancel()
    redis.rpush('gate', 'open')
    until(lambda: parent.get_status() == JobStatus.FINISHED, 'the job has ended')
    running.stop()
    assert child.get_status() == JobStatus.DEFERRED


def test_dependents_may_go_to_the_front(work, queue, redis):
    parent = queue.enqueue(jobs.note, 'parent')
    queue.enqueue(jobs.note, 'other')
    queue.enqueue(jobs.note, 'child', depends_on=Dependency(jobs=parent, enqueue_at_front=True))
    work.burst()
    assert notes(redis) == ['parent', 'child', 'other']


def test_a_dependent_waits_in_its_own_queue(work, queue, redis):
    other = Queue('other', connection=redis)
    parent = queue.enqueue(jobs.add, 1, 1)
    child = other.enqueue(jobs.add, 1, 2, depends_on=parent)
    work.burst()
    assert other.job_ids == [child.id] and child.get_status() == JobStatus.QUEUED
    work.burst('other')
    assert child.return_value() == 3


def test_a_parent_without_a_result_releases_its_dependents(work, queue):
    parent = queue.enqueue(jobs.add, 1, 1, result_ttl=0)
    child = queue.enqueue(jobs.add, 1, 2, depends_on=parent)
    work.burst()
    assert child.return_value() == 3


def test_many_dependents_of_one_job(work, queue):
    parent = queue.enqueue(jobs.add, 1, 1)
    children = [queue.enqueue(jobs.add, number, depends_on=parent) for number in range(20)]
    work.burst()
    assert [child.return_value() for child in children] == list(range(20))


def test_a_group_knows_its_jobs(work, queue, redis):
    group = Group.create(connection=redis, name='batch')
    kept, gone = group.enqueue_many(
        queue,
        [Queue.prepare_data(jobs.add, args=(1, 2)), Queue.prepare_data(jobs.add, args=(1, 2), result_ttl=0)],
    )
    assert len(group.get_jobs()) == 2
    work.burst()
    assert [job.id for job in group.get_jobs()] == [kept.id]
    assert kept.return_value() == 3 and not redis.sismember('rq:group:batch', gone.id)


def test_a_group_that_lost_all_its_jobs_is_cleaned(work, queue, redis):
    group = Group.create(connection=redis, name='batch')
    [job] = group.enqueue_many(queue, [Queue.prepare_data(jobs.add, args=(1, 2))])
    redis.delete(job.key, queue.key)
    work.burst()
    assert redis.smembers('rq:groups') == set() and not redis.exists('rq:group:batch')


def test_a_unique_job_is_refused_while_its_hash_lives(work, queue):
    queue.enqueue(jobs.add, 1, 2, job_id='only', unique=True, result_ttl=0)
    with pytest.raises(DuplicateJobError):
        queue.enqueue(jobs.add, 1, 2, job_id='only', unique=True)
    work.burst()
    queue.enqueue(jobs.add, 1, 2, job_id='only', unique=True)
    work.burst()
    with pytest.raises(DuplicateJobError):
        queue.enqueue(jobs.add, 1, 2, job_id='only', unique=True)


def limited(queue, function, *args, key='api', concurrency=1, **options):
    return queue.enqueue(function, *args, rate_limit=RateLimit(key, concurrency), **options)


@pytest.mark.rq3
def test_rate_limited_jobs_run_one_after_the_other(work, queue, redis):
    # Jobs of the same second wait in the order of their ids.
    first, second, third = [limited(queue, jobs.note, str(number), job_id=str(number)) for number in range(3)]
    assert [job.get_status() for job in (first, second, third)] == ['queued', 'rate_limited', 'rate_limited']
    work.burst()
    assert notes(redis) == ['0', '1', '2']
    assert RateLimitRegistry('api', redis).get_allowed_job_count() == 0


@pytest.mark.rq3
@pytest.mark.parametrize(
    'function, options',
    [(jobs.fail, {}), (jobs.die, {}), (jobs.add, {'result_ttl': 0}), (jobs.fail, {'retry': Retry(1, interval=100)})],
    ids='failed died deleted rescheduled'.split(),
)
def test_each_end_of_a_job_frees_its_slot(work, queue, function, options):
    args = (1, 2) if function is jobs.add else ()
    limited(queue, function, *args, **options)
    waiting = limited(queue, jobs.add, 1, 2)
    work.burst()
    assert waiting.return_value() == 3


@pytest.mark.rq3
def test_a_job_that_asks_to_be_run_again_keeps_its_slot(work, queue, redis):
    asking = limited(queue, jobs.ask_retry, 1)
    waiting = limited(queue, jobs.note, 'waiting')
    work.burst()
    assert notes(redis) == ['asked', 'asked', 'waiting']
    assert asking.is_failed and waiting.is_finished


@pytest.mark.rq3
def test_a_slot_that_leaked_is_freed_by_maintenance(work, queue, redis):
    limited(queue, jobs.note, 'leaked')
    waiting = limited(queue, jobs.note, 'waiting')
    leaked = RateLimitRegistry('api', redis).get_allowed_job_ids()[0]
    redis.delete(f'rq:job:{leaked}')
    work.burst()
    assert notes(redis) == ['waiting'] and waiting.is_finished


@pytest.mark.rq3
def test_an_unused_rate_limit_is_forgotten(work, queue, redis):
    limited(queue, jobs.add, 1, 2)
    work.burst()
    work.burst()
    assert redis.keys('rq:rl*') == []
