"""A job that somebody calls off between its claim and its begin."""

import pytest
from rq.job import Job, JobStatus

import jobs
from support.app import entered
from support.wait import until

WARM = 40


def canceled(job, redis):
    job.cancel()
    return lambda: job.get_status(refresh=True) == JobStatus.CANCELED


def deleted(job, redis):
    job.delete()
    return lambda: not Job.exists(job.id, connection=redis)


@pytest.mark.parametrize('call_off', [canceled, deleted])
def test_it_does_not_run_and_does_not_come_back(work, queue, redis, call_off):
    for _ in range(WARM):
        queue.enqueue(jobs.hold_or_note, 'warm')
    running = work.start()
    until(lambda: redis.llen('notes') == WARM, 'jobs of this function are known to be short')
    queue.enqueue(jobs.hold_or_note)
    # The worker's next jobs are chosen while it runs that one.
    called_off, kept = (queue.enqueue(jobs.hold_or_note, tag) for tag in ('called off', 'kept'))
    entered(redis)
    is_off = call_off(called_off, redis)
    claims = lambda: [claim.rpartition(b':')[0].decode() for claim in redis.zrange('rq:wip:default', 0, -1)]
    until(lambda: called_off.id not in claims(), 'nobody holds the job any more')
    redis.rpush('gate', 'open')
    assert kept.latest_result(timeout=30)
    running.stop()
    notes = redis.lrange('notes', 0, -1)
    assert b'called off' not in notes and b'kept' in notes
    assert is_off()
    assert queue.job_ids == [] and queue.started_job_registry.get_job_ids() == []
