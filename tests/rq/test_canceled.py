"""A job that somebody calls off between its claim and its begin."""

import pytest
from rq.job import Job, JobStatus

import jobs
from support.app import entered
from support.wait import until

def canceled(job, redis):
    job.cancel()
    return lambda: job.get_status(refresh=True) == JobStatus.CANCELED


def deleted(job, redis):
    job.delete()
    return lambda: not Job.exists(job.id, connection=redis)


@pytest.mark.parametrize('call_off', [canceled, deleted])
def test_it_does_not_run_and_does_not_come_back(work, queue, redis, call_off):
    # A stock worker has no job but the one that it runs.
    ahead = {'prefetch': 4} if work.target.name == 'pool' else {}
    running = work.start(**ahead)
    queue.enqueue(jobs.hold_or_note)
    entered(redis)
    called_off, kept = (queue.enqueue(jobs.hold_or_note, tag) for tag in ('called off', 'kept'))
    if ahead:
        until(lambda: queue.count == 0, 'the next jobs are taken')
    is_off = call_off(called_off, redis)
    if ahead:
        until(lambda: 'job canceled before it began' in running.output(), 'the job is let go')
    redis.rpush('gate', 'open')
    assert kept.latest_result(timeout=30)
    running.stop()
    assert redis.lrange('notes', 0, -1) == [b'kept']
    assert is_off()
    assert queue.job_ids == [] and queue.started_job_registry.get_job_ids() == []


def canceled_too_soon(job, redis):
    """RQ's own end of it comes before the pool has let the job go, and leaves it its slot."""
    from rq.rate_limit import RateLimitRegistry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RateLimitRegistry, 'cancel', lambda *_: None)
        return canceled(job, redis)


@pytest.mark.rq3
@pytest.mark.parametrize('call_off', [canceled, deleted, canceled_too_soon])
def test_its_slot_goes_to_the_next(work, queue, redis, call_off):
    from rq.rate_limit import RateLimit

    # A stock worker has no job but the one that it runs.
    ahead = {'prefetch': 4} if work.target.name == 'pool' else {}
    if call_off is canceled_too_soon and not ahead:
        pytest.skip('a job that nobody has taken')
    running = work.start(**ahead)
    queue.enqueue(jobs.hold)
    entered(redis)
    first, second = (queue.enqueue(jobs.note, tag, rate_limit=RateLimit('key', 1)) for tag in ('first', 'second'))
    if ahead:
        until(lambda: first.get_status() == JobStatus.STARTED, 'the first one is taken')
    call_off(first, redis)
    until(lambda: second.get_status() != JobStatus.RATE_LIMITED, 'the second one has the slot', 60)
    redis.rpush('gate', 'open')
    assert second.latest_result(timeout=30)
    running.stop()
    assert redis.lrange('notes', 0, -1) == [b'second']
