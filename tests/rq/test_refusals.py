"""What a job asks for and Redis refuses, and what stands where a key of RQ's should: one job fails, and no other."""

import json
import sys
from datetime import timedelta

import pytest
from rq import Queue, Retry
from rq.job import Dependency

import jobs
from support.app import entered
from support.cli import run
from support.wait import until


def reason(job):
    return job.latest_result().exc_string


def is_nowhere_but_failed(redis, job):
    """It is in the registry of failed jobs, and in nothing else."""
    others = [redis.zscore(f'rq:{name}:default', job.id) for name in ('finished', 'deferred', 'scheduled', 'canceled')]
    started = [member for member in redis.zrange('rq:wip:default', 0, -1) if member.startswith(job.id.encode() + b':')]
    return redis.zscore('rq:failed:default', job.id) is not None and not any(others) and not started


@pytest.mark.pool
@pytest.mark.parametrize('function', [jobs.add, jobs.fail])
def test_a_life_that_redis_refuses_fails_its_job_alone(work, queue, redis, function):
    """Among jobs that end in one batch with it."""
    parents = [queue.enqueue(jobs.add, number, 1) for number in range(40)]
    children = [queue.enqueue(jobs.note, 'child', depends_on=parent) for parent in parents]
    arguments, name = ((1, 2), 'result_ttl') if function is jobs.add else ((), 'failure_ttl')
    odd = queue.enqueue(function, *arguments, **{name: sys.maxsize}, at_front=True)
    allowing = queue.enqueue(jobs.note, 'allowing', depends_on=Dependency(jobs=odd, allow_failure=True))
    work.burst()
    assert all(job.is_finished for job in [*parents, *children]) and redis.zcard('rq:deferred:default') == 0
    assert odd.is_failed and is_nowhere_but_failed(redis, odd) and reason(odd)
    assert allowing.is_finished


@pytest.mark.pool
@pytest.mark.parametrize('key', ['rq:results:odd', 'rq:job:odd:dependents', 'rq:executions:odd'])
def test_a_key_of_another_type_fails_its_job_alone(work, queue, redis, key):
    odd = queue.enqueue(jobs.add, 1, 2, job_id='odd')
    redis.set(key, 'this is no key of RQ')
    others = [queue.enqueue(jobs.add, number, 1) for number in range(10)]
    child = queue.enqueue(jobs.add, 1, 2, depends_on=others[0])
    log = work.burst()
    assert all(job.is_finished for job in [*others, child])
    assert odd.is_failed and is_nowhere_but_failed(redis, odd)
    assert 'WRONGTYPE' in log and 'odd' in log
    if key != 'rq:results:odd':
        assert 'WRONGTYPE' in reason(odd)


@pytest.mark.pool
def test_what_has_the_key_of_a_job_and_is_none_is_left_out(work, queue, redis):
    redis.set('rq:job:odd', 'this is no job')
    queue.push_job_id('odd')
    job = queue.enqueue(jobs.add, 1, 2)
    log = work.burst()
    assert job.is_finished and queue.job_ids == []
    assert 'WRONGTYPE' in log and 'rq:job:odd' in log and redis.get('rq:job:odd')


@pytest.mark.pool
@pytest.mark.parametrize('key', ['rq:queue:odd', 'rq:wip:odd'])
def test_a_queue_that_cannot_be_read_stops_no_other(work, queue, redis, key):
    if key == 'rq:wip:odd':
        waiting = Queue('odd', connection=redis).enqueue(jobs.add, 1, 2)
    redis.set(key, 'this is no key of RQ')
    job = queue.enqueue(jobs.add, 1, 2)
    log = work.start('odd', 'default')
    until(lambda: job.is_finished, 'the job has ended')
    log.signal()
    assert "a queue can't be read" in log.wait() and redis.get(key) == b'this is no key of RQ'
    if key == 'rq:wip:odd':
        assert Queue('odd', connection=redis).job_ids == [waiting.id] and waiting.is_queued


@pytest.mark.pool
def test_a_dependent_that_cannot_be_enqueued_fails_with_the_reason(work, queue, redis):
    parent = queue.enqueue(jobs.add, 1, 2)
    odd = queue.enqueue(jobs.add, 1, 2, depends_on=parent)
    good = queue.enqueue(jobs.add, 1, 2, depends_on=parent)
    redis.hset(odd.key, 'ttl', sys.maxsize)
    work.burst()
    assert parent.is_finished and good.is_finished
    assert odd.is_failed and 'ttl is more than Redis takes' in reason(odd) and is_nowhere_but_failed(redis, odd)


@pytest.mark.pool
def test_a_scheduled_job_that_cannot_be_enqueued_fails_with_the_reason(work, queue, redis):
    odd, good = [queue.enqueue_in(timedelta(0), jobs.add, 1, 2) for _ in range(2)]
    redis.hset(odd.key, 'ttl', 'soon')
    work.burst(with_scheduler=True)
    assert good.is_finished
    assert odd.is_failed and 'ttl is no whole number: soon' in reason(odd) and is_nowhere_but_failed(redis, odd)


@pytest.mark.pool
@pytest.mark.parametrize(
    'field, value, said',
    [
        ('timeout', 'soon', 'its timeout, `soon`, is no number of seconds'),
        ('timeout', 'nan', 'its timeout, `nan`, is no number of seconds'),
        ('retries_left', '1.5', 'its retries_left, `1.5`, is no whole number'),
        ('retry_intervals', '[Infinity]', 'its retry_intervals, `[Infinity]`, are no list of seconds'),
    ],
)
@pytest.mark.parametrize('whole', [False, True])
def test_a_field_that_cannot_be_read_fails_its_job_at_once(work, queue, redis, field, value, said, whole):
    odd, good = [queue.enqueue(jobs.add, 1, 2) for _ in range(2)]
    redis.hset(odd.key, field, value)
    if whole:
        redis.hset(odd.key, mapping={'success_callback_name': 'jobs.succeeded', 'success_callback_timeout': 60})
    work.burst()
    assert good.is_finished and redis.hget(odd.key, 'status') == b'failed'
    assert is_nowhere_but_failed(redis, odd) and redis.llen('rq:queue:default:intermediate') == 0
    redis.hdel(odd.key, field)
    assert said in reason(odd)


@pytest.mark.pool
def test_a_callback_needs_a_hash_that_rq_can_read(work, queue, redis):
    odd, good = [queue.enqueue(jobs.add, 1, 2) for _ in range(2)]
    redis.hset(odd.key, mapping={'success_callback_name': 'jobs.succeeded', 'success_callback_timeout': 60})
    redis.hset(odd.key, 'description', b'caf\xe9')
    work.burst()
    assert good.is_finished and redis.hget(odd.key, 'status') == b'failed'
    redis.hset(odd.key, 'description', '')
    assert 'its description is no UTF-8 text' in reason(odd)


@pytest.mark.pool
@pytest.mark.parametrize('id', ['a' * 256, 'with\nline', b'caf\xe9'], ids='long control bytes'.split())
def test_an_id_that_is_no_name_fails_its_job_at_once(work, queue, redis, id):
    like, good = [queue.enqueue(jobs.add, 1, 2) for _ in range(2)]
    key = b'rq:job:' + (id if isinstance(id, bytes) else id.encode())
    redis.hset(key, mapping=redis.hgetall(like.key))
    redis.lpush('rq:queue:default', id)
    log = work.burst()
    assert good.is_finished and redis.hget(key, 'status') == b'failed'
    assert redis.zscore('rq:failed:default', id) and redis.zcard('rq:wip:default') == 0
    assert "a job can't be run: it is failed" in log and 'its id' in log


def test_a_fraction_of_a_second_is_waited(work, queue, redis):
    job = queue.enqueue(jobs.fail, retry=Retry(max=1, interval=[0.5]))
    work.burst()
    job.refresh()
    assert job.is_scheduled and job.retries_left == 0


def test_a_job_that_is_canceled_while_it_runs_is_not_requeued_by_a_stop(work, queue, redis):
    job = queue.enqueue(jobs.hold)
    running = work.start()
    entered(redis)
    job.cancel()
    running.signal()
    until(lambda: running.processes[0].poll() is None, 'it lets the job end')
    redis.rpush('gate', 'open')
    running.wait()
    assert job.get_status() in ('finished', 'canceled') and queue.job_ids == []


@pytest.mark.pool
@pytest.mark.parametrize('end', ['canceled', 'deleted', 'enqueued anew'])
@pytest.mark.parametrize('whole', [False, True])
def test_what_a_stop_gives_back_is_not_queued_when_it_is_somebody_elses_by_now(work, queue, redis, end, whole):
    job = queue.enqueue(jobs.hold)
    if whole:
        redis.hset(job.key, mapping={'success_callback_name': 'jobs.succeeded', 'success_callback_timeout': 60})
    running = work.start(stop_timeout='1s')
    entered(redis)
    if end == 'canceled':
        job.cancel()
    elif end == 'deleted':
        job.delete()
    else:
        job.cancel()
        queue.enqueue_job(job)
    running.signal()
    running.wait()
    waiting = [job.id] if end == 'enqueued anew' else []
    assert queue.job_ids == waiting
    status = {'canceled': b'canceled', 'deleted': None, 'enqueued anew': b'queued'}[end]
    assert redis.hget(job.key, 'status') == status


@pytest.mark.pool
def test_a_job_that_was_canceled_while_it_ran_is_not_run_again(work, queue, redis):
    job = queue.enqueue(jobs.hold_and_fail, retry=Retry(max=3))
    running = work.start()
    entered(redis)
    job.cancel()
    redis.rpush('gate', 'open')
    until(lambda: redis.zcard('rq:wip:default') == 0, 'the job has ended')
    running.stop()
    assert job.get_status() == 'canceled' and queue.job_ids == []


@pytest.mark.pool
def test_a_record_that_cannot_be_read_costs_one_line(work, queue, redis, server):
    failed = queue.enqueue(jobs.fail)
    work.burst()
    for id in [b'caf\xe9', 'a' * 300, 'with\nline']:
        redis.zadd('rq:failed:default', {id: 2_000_000_000})
    redis.zadd('rq:failed:default', {'typed': 2_000_000_000})
    redis.set('rq:job:typed', 'this is no job')
    redis.hset(failed.key, b'f\xe9', 'a field of somebody else')
    status, said, complaint = run(server.url, 'dead', 'list', '--json')
    assert status == 0, complaint
    listed = [json.loads(line) for line in said.splitlines()]
    unreadable = [job for job in listed if job['id'] != failed.id]
    assert len(listed) == 4 and len(unreadable) == 3 and all('its id' in json.dumps(job) for job in unreadable)


@pytest.mark.pool
def test_a_check_names_the_commands_that_a_user_may_not_run(server, redis):
    redis.execute_command('ACL', 'SETUSER', 'narrow', 'on', '>secret', '~rq:*', '&*', '+@all', '-@dangerous', '+info', '+time', '-xadd',
                          '-expire', '-blmove')
    try:
        url = server.url.replace('redis://', 'redis://narrow:secret@')
        status, _, said = run(url, 'check', '--python', sys.executable)
        assert status == 1, said
        for name in ['XADD', 'EXPIRE', 'BLMOVE']:
            assert name in said
        assert 'ZADD' not in said and redis.keys('*') == []
    finally:
        redis.execute_command('ACL', 'DELUSER', 'narrow')
