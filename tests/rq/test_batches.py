"""Batch tasks of a pool: single jobs of RQ's in one call, and each ends as if it had run alone."""

import pytest
from rq import Callback, Queue, Retry
from rq.command import send_stop_job_command
from rq.job import JobStatus

import jobs
from support.fingerprint import differences, fingerprint
from support.wait import until


@pytest.fixture(autouse=True)
def in_a_pool(target):
    if target.name != 'pool':
        pytest.skip('stock RQ has no batches')


@pytest.fixture
def burst(work):
    """Runs a pool of one worker until the queues are empty."""

    def run(**options):
        return work.burst(preload='rows', **options)

    return run


@pytest.fixture
def config(tmp_path):
    """Writes a configuration file and returns its path."""

    def write(text):
        path = tmp_path / 'pool.toml'
        path.write_text(text)
        return str(path)

    return write


def calls(redis):
    """How many jobs each call got."""
    return [int(note.split()[1]) for note in redis.lrange('notes', 0, -1) if note.startswith(b'calls')]


def enqueue(queue, function, *arguments, **options):
    return [queue.enqueue(f'rows.{function}', args=(argument,), **options) for argument in arguments]


@pytest.mark.parametrize('function', ['insert', 'insert_later'])
def test_waiting_jobs_come_in_batches_of_the_size_that_the_code_says(burst, queue, redis, function):
    enqueued = enqueue(queue, function, *range(10))
    burst()
    assert [job.return_value(refresh=True) for job in enqueued] == list(range(10))
    assert sum(calls(redis)) == 10 and max(calls(redis)) == 4


def test_a_job_that_is_alone_waits_no_longer_than_the_linger(work, queue, redis):
    work.start(preload='rows')
    [job] = enqueue(queue, 'insert', 7)
    assert job.latest_result(timeout=30).return_value == 7
    assert calls(redis) == [1]


@pytest.mark.parametrize('serializer', ['pickle', 'json'])
def test_a_description_does_not_hide_the_function(burst, redis, serializer):
    queue = Queue(connection=redis, serializer=serializer if serializer == 'json' else None)
    enqueued = enqueue(queue, 'insert', 1, 2, 3, 4, description='Insert a row')
    burst(serializer=serializer)
    assert [job.return_value(refresh=True) for job in enqueued] == [1, 2, 3, 4]
    # How many are there when the first call begins is the machine's business.
    assert sum(calls(redis)) == 4 and max(calls(redis)) > 1


def test_a_description_that_names_another_function_fools_nobody(burst, queue, redis):
    liars = [queue.enqueue(jobs.add, number, description='rows.insert(1)') for number in range(3)]
    [honest] = enqueue(queue, 'insert', 9)
    burst()
    assert [job.return_value(refresh=True) for job in (*liars, honest)] == [0, 1, 2, 9]


def test_each_job_has_an_outcome_of_its_own(burst, queue, redis):
    good, bad, again, last = enqueue(queue, 'insert', 1, 'fail', 'retry', 4)
    unknown = queue.enqueue('rows.insert', no_such_argument=True)
    burst(env={'PYTHONUNBUFFERED': '1'})
    states = [job.get_status().value for job in (good, bad, again, last)]
    assert states == ['finished', 'failed', 'scheduled', 'finished']
    assert 'ValueError: no luck' in bad.latest_result().exc_string
    assert again.latest_result().type.name == 'RETRIED'
    assert unknown.get_status() is JobStatus.FAILED


def test_redis_holds_what_single_runs_leave(work, redis, queue):
    def story(env):
        redis.flushall()
        for number, argument in enumerate([1, 'fail', 'retry', 'text']):
            options = {'retry': Retry(max=2, interval=50)} if number == 1 else {'meta': {'n': number}}
            queue.enqueue('rows.insert', argument, times=1, job_id=f'job{number}', result_ttl=900, **options)
        queue.enqueue('rows.insert', 5, job_id='unkept', result_ttl=0)
        work.burst(preload='rows', name='web', env=env)
        counted = calls(redis)
        redis.delete('notes')
        return fingerprint(redis), counted

    (single, none), (batched, counted) = story({'ROWS_SINGLE': '1'}), story({})
    assert none == [] and max(counted) == 4
    assert list(differences(single, batched)) == []


def test_a_call_that_raises_fails_each_job(burst, queue):
    enqueued = enqueue(queue, 'insert_all_or_none', 1, 'poison', 3)
    burst()
    for job in enqueued:
        assert job.get_status() is JobStatus.FAILED and 'ValueError: poisoned' in job.latest_result().exc_string


def test_a_failed_batch_is_halved_down_to_the_job_at_fault(burst, queue, redis, config):
    enqueued = enqueue(queue, 'insert_all_or_none', 0, 1, 2, 3, 4, 'poison', 6, 7)
    settings = config('[tasks."rows.insert_all_or_none"]\nbatch_split = true\n')
    burst(config=settings, exception_handler='jobs.handle')
    states = [job.get_status().value for job in enqueued]
    assert states == ['finished'] * 5 + ['failed'] + ['finished'] * 2
    assert calls(redis) == [8, 4, 4, 2, 1, 1, 2]
    assert redis.lrange('notes', 0, -1).count(f'handle {enqueued[5].id} ValueError'.encode()) == 1


def test_a_retried_job_takes_no_other_with_it(burst, queue, redis, config):
    """It was found to be at fault: alone, it costs no other job another run."""
    rows = ('poison', 'poison', 1, 2)
    enqueued = [queue.enqueue('rows.insert_all_or_none', row, retry=Retry(max=2)) for row in rows]
    settings = config('[tasks."rows.insert_all_or_none"]\nbatch_split = true\n')
    burst(config=settings)
    assert [job.get_status().value for job in enqueued] == ['failed'] * 2 + ['finished'] * 2
    assert sorted(calls(redis), reverse=True) == [4, 2, 2] + 3 * [1, 1]


def test_exception_handlers_see_each_job(burst, queue, redis):
    enqueued = enqueue(queue, 'insert_all_or_none', 1, 'poison')
    burst(exception_handler='jobs.handle')
    handled = {f'handle {job.id} ValueError'.encode() for job in enqueued}
    assert handled <= set(redis.lrange('notes', 0, -1))
    assert queue.failed_job_registry.count == 2


def test_jobs_of_a_worker_that_died_run_again_if_they_may(burst, queue):
    may, may_not = queue.enqueue('rows.die_once', 1, retry=Retry(max=1)), queue.enqueue('rows.die_once', 2)
    burst()
    assert may.return_value(refresh=True) == 1
    assert may_not.get_status() is JobStatus.FAILED
    assert 'Work-horse terminated unexpectedly' in may_not.latest_result().exc_string


def test_a_call_is_interrupted_at_the_longest_timeout_of_its_jobs(burst, queue):
    enqueued = [queue.enqueue('rows.overrun', number, job_timeout=number) for number in (1, 2)]
    burst()
    for job in enqueued:
        assert 'maximum timeout value (2 seconds)' in job.latest_result().exc_string


def test_what_gathers_goes_back_when_the_pool_stops(work, queue, redis):
    enqueued = enqueue(queue, 'gather', 1, 2, 3)
    running = work.start(preload='rows')
    until(lambda: queue.count == 0, 'the jobs gather')
    running.stop()
    assert queue.job_ids == [job.id for job in enqueued]
    assert {job.get_status() for job in enqueued} == {JobStatus.QUEUED}
    assert redis.zcard('rq:wip:default') == 0 and redis.keys('rq:execution*') == []


def test_a_warm_shutdown_lets_a_batch_finish(work, queue, redis):
    enqueued = enqueue(queue, 'hold', 1, 2)
    running = work.start(preload='rows')
    redis.blpop('entered')
    running.signal()
    redis.rpush('gate', 'open')
    running.wait()
    assert [job.return_value(refresh=True) for job in enqueued] == [1, 2]


def test_stopping_one_job_lets_the_others_run_again(work, queue, redis):
    enqueued = enqueue(queue, 'hold', 1, 2, 3)
    work.start(preload='rows')
    redis.blpop('entered')
    send_stop_job_command(redis, enqueued[1].id)
    until(lambda: enqueued[1].get_status() is JobStatus.STOPPED, 'the job is stopped')
    redis.rpush('gate', 'open')
    results = [enqueued[at].latest_result(timeout=30) for at in (0, 2)]
    assert [result.return_value for result in results] == [1, 3]
    assert queue.failed_job_registry.get_job_ids() == [enqueued[1].id]


def test_a_job_that_needs_more_of_rq_is_a_batch_of_one(burst, queue, redis):
    parent = queue.enqueue('rows.insert', 2, job_id='parent', on_success=Callback(jobs.succeeded))
    bad = queue.enqueue('rows.insert', 'fail', job_id='bad', on_failure=Callback(jobs.failed))
    child = queue.enqueue('rows.insert', 3, depends_on=parent)
    burst()
    assert calls(redis) == [1, 1, 1]
    assert [job.return_value(refresh=True) for job in (parent, child)] == [2, 3]
    notes = redis.lrange('notes', 0, -1)
    assert b'success parent 2 started' in notes or b'success parent 2 finished' in notes
    assert b'failure bad ValueError no luck True' in notes and bad.get_status() is JobStatus.FAILED


def test_a_custom_job_class_ends_each_job_of_a_batch(burst, queue, redis):
    enqueued = enqueue(queue, 'insert', 1, 'fail', 3)
    burst(job_class='custom.CountedJob')
    assert [job.get_status().value for job in enqueued] == ['finished', 'failed', 'finished']
    assert max(calls(redis)) == 3


def test_a_task_knows_the_jobs_of_its_call(burst, queue):
    enqueued = enqueue(queue, 'who', 1, 2)
    burst()
    assert [job.return_value(refresh=True) for job in enqueued] == [job.id for job in enqueued]


def test_jobs_of_fresh_workers_run_one_by_one(burst, queue, redis):
    enqueued = enqueue(queue, 'insert', 1, 2, 3)
    burst(isolation='fresh')
    assert [job.return_value(refresh=True) for job in enqueued] == [1, 2, 3]
    assert calls(redis) == [1, 1, 1]
