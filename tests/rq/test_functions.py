"""What a job may be, and what it can know of itself while it runs."""

import pytest
from rq import Callback, Queue, Repeat, Retry, SimpleWorker
from rq.job import Job, JobStatus

import custom
import jobs


def result_of(work, job):
    work.burst(job.origin)
    assert job.latest_result().exc_string is None
    return job.return_value()


@pytest.mark.parametrize(
    'function, args, kwargs, expected',
    [
        (jobs.add, (1,), {'b': 2}, 3),
        ('jobs.add', (1, 2), {}, 3),
        (jobs.add_later, (1, 2), {}, 3),
        (jobs.Greeter('Hello').greet, ('Ann',), {}, 'Hello, Ann'),
        (jobs.Greeter('Hello').greet_later, ('Ann',), {}, 'Hello, Ann'),
        (jobs.Greeter('Hello'), ('Ann',), {}, 'Hello, Ann!'),
        (jobs.Greeter.limited, (5,), {}, 3),
        (jobs.Greeter.double, (5,), {}, 10),
        ('jobs.Greeter.double', (5,), {}, 10),
        (len, ([1, 2],), {}, 2),
    ],
    ids='function name coroutine method async-method callable classmethod staticmethod static-name builtin'.split(),
)
def test_each_kind_of_callable_runs(work, queue, function, args, kwargs, expected):
    job = queue.enqueue(function, args=args, kwargs=kwargs)
    assert result_of(work, job) == expected


def test_a_job_knows_itself(work, queue):
    job = queue.enqueue(jobs.who, job_id='me')
    known = result_of(work, job)
    assert {key: known[key] for key in ('id', 'origin', 'func', 'args', 'status')} == {
        'id': 'me',
        'origin': 'default',
        'func': 'jobs.who',
        'args': [],
        'status': 'started',
    }
    assert known['worker'] == job.latest_result().worker_name


def test_the_environment_names_worker_and_job(work, queue):
    job = queue.enqueue(jobs.who, job_id='me')
    known = result_of(work, job)
    assert known['env'] == [known['worker'], 'me']


def test_a_job_is_out_of_reach_of_the_terminal(work, queue):
    """Ctrl+C reaches the worker and not the job: it has a process group of its own and ignores SIGINT."""
    who, signals = queue.enqueue(jobs.who), queue.enqueue(jobs.signals)
    work.burst()
    assert who.return_value()['leader'] and not who.return_value()['group_of_parent']
    assert signals.return_value() == [True, True]


def test_jobs_draw_different_random_numbers(work, queue):
    drawn = [queue.enqueue(jobs.luck) for _ in range(5)]
    work.burst()
    assert len({job.return_value() for job in drawn}) == 5


def test_a_job_saves_meta_while_it_runs(work, queue):
    job = queue.enqueue(jobs.save_meta, progress=50, meta={'owner': 'Ann'})
    assert result_of(work, job) == {'owner': 'Ann', 'progress': 50}
    assert job.get_meta() == {'owner': 'Ann', 'progress': 50}


def test_meta_saved_by_a_job_survives_its_failure(work, queue):
    job = queue.enqueue(jobs.save_meta_and_fail, progress=50, meta={'owner': 'Ann'})
    work.burst()
    assert job.is_failed
    assert job.get_meta() == {'owner': 'Ann', 'progress': 50}


def test_a_job_enqueues_another(work, queue, redis):
    job = queue.enqueue(jobs.enqueue_child, job_id='parent')
    assert result_of(work, job) == 'parent-child'
    assert Job.fetch('parent-child', connection=redis).return_value() == 2


@pytest.mark.parametrize('serializer', ['pickle', 'json', 'rq.serializers.JSONSerializer', 'custom.MarkedSerializer'])
def test_a_worker_reads_and_writes_with_the_serializer_it_was_told(work, redis, serializer):
    queue = Queue('serialized', connection=redis, serializer=serializer)
    job = queue.enqueue(jobs.add, 1, b=2, meta={'owner': 'Ann'})
    asking = queue.enqueue(jobs.save_meta, progress=50, meta={'owner': 'Ann'})
    work.burst('serialized', serializer=serializer)
    assert job.return_value() == 3
    assert asking.return_value() == {'owner': 'Ann', 'progress': 50}
    assert asking.get_meta() == {'owner': 'Ann', 'progress': 50}


def test_data_of_another_serializer_fails_its_job_only(work, redis):
    alien = Queue('mixed', connection=redis, serializer='json').enqueue(jobs.add, 1, 2)
    own = Queue('mixed', connection=redis).enqueue(jobs.add, 1, 2)
    work.burst('mixed')
    assert 'DeserializationError' in alien.latest_result().exc_string
    assert own.return_value() == 3


def test_uncompressed_data_is_read(work, queue, redis):
    job = queue.enqueue(jobs.add, 1, 2)
    redis.hset(job.key, 'data', job.data)
    assert result_of(work, job) == 3


def test_a_custom_job_class_performs_its_jobs(work, redis):
    job = Queue(connection=redis, job_class=custom.CountedJob).enqueue(jobs.add, 1, 2)
    work.burst(job_class='custom.CountedJob')
    assert job.return_value() == 3
    assert redis.lrange('notes', 0, -1) == [f'perform {job.id}'.encode()]


@pytest.mark.rq3
def test_a_custom_queue_class_enqueues_dependents(work, queue, redis):
    parent = queue.enqueue(jobs.add, 1, 1)
    child = queue.enqueue(jobs.add, 1, 2, depends_on=parent)
    work.burst(queue_class='custom.NotingQueue')
    assert child.return_value() == 3
    assert redis.lrange('notes', 0, -1) == [f'ready {child.id}'.encode(), b'none more', b'none more']


def test_a_custom_worker_class_ends_its_jobs(work, queue, redis):
    good, bad = queue.enqueue(jobs.add, 1, 2), queue.enqueue(jobs.fail)
    work.burst(worker_class='custom.NotingWorker')
    assert good.return_value() == 3 and bad.is_failed
    assert redis.lrange('notes', 0, -1) == [f'success {good.id}'.encode(), f'failure {bad.id}'.encode()]


def own_classes(work):
    """The options of a worker whose classes have keys of their own. Only a pool must be told of the prefixes."""
    classes = {'job_class': 'custom.OwnNamespaceJob', 'queue_class': 'custom.OwnNamespaceQueue'}
    told = {'job_key_prefix': 'own:job:', 'queue_key_prefix': 'own:queue:'}
    return {**classes, **(told if work.target.name == 'pool' else {})}


def test_custom_classes_may_have_keys_of_their_own(work, redis):
    job = custom.OwnNamespaceQueue('own', connection=redis).enqueue(jobs.add, 1, 2)
    assert redis.exists(f'own:job:{job.id}', 'own:queue:own') == 2
    work.burst('own', **own_classes(work))
    assert job.return_value() == 3
    assert redis.hget(f'own:job:{job.id}', 'status') == b'finished'
    assert redis.exists(f'rq:job:{job.id}') == 0


def test_jobs_of_all_kinds_may_have_keys_of_their_own(work, redis):
    queue = custom.OwnNamespaceQueue('own', connection=redis)
    first = queue.enqueue(jobs.add, 1, 2, on_success=Callback(jobs.succeeded))
    failing = queue.enqueue(jobs.fail, retry=Retry(max=1), on_failure=Callback(jobs.failed))
    repeated = queue.enqueue(jobs.note, 'again', repeat=Repeat(times=1))
    work.burst('own', **own_classes(work))
    told = sorted(note.split()[0] for note in redis.lrange('notes', 0, -1))
    assert told == [b'again', b'again', b'failure', b'failure', b'success']
    assert [job.get_status() for job in (first, failing, repeated)] == ['finished', 'failed', 'finished']
    assert redis.exists('own:queue:own') == 0 and redis.keys('rq:job:*') == redis.keys('rq:queue:*') == []


def test_a_worker_class_brings_its_exception_handler(work, queue, redis):
    job = queue.enqueue(jobs.fail)
    work.burst(worker_class='custom.HandlingWorker')
    assert redis.lrange('notes', 0, -1) == [f'handle {job.id} ValueError'.encode()]


def test_a_job_that_the_worker_has_not_seen_before_is_found_on_its_path(work, queue, tmp_path):
    (tmp_path / 'elsewhere.py').write_text('def run():\n    return "found"\n')
    job = queue.enqueue('elsewhere.run')
    work.burst(path=str(tmp_path))
    assert job.return_value() == 'found'


def test_a_function_that_does_not_exist_fails_its_job(work, queue):
    missing = queue.enqueue('jobs.absent')
    unimportable = queue.enqueue('absent_module.absent')
    after = queue.enqueue(jobs.add, 1, 2)
    work.burst()
    assert missing.is_failed and 'absent' in missing.latest_result().exc_string
    assert unimportable.is_failed and 'absent_module' in unimportable.latest_result().exc_string
    assert after.return_value() == 3


def test_an_id_whose_hash_is_gone_is_skipped(work, queue, redis):
    gone, stays = queue.enqueue(jobs.note, 'gone'), queue.enqueue(jobs.note, 'stays')
    redis.delete(gone.key)
    work.burst()
    assert redis.lrange('notes', 0, -1) == [b'stays']
    assert redis.keys('*wip*') == [] and not redis.exists(gone.key) and stays.is_finished


def test_a_canceled_job_does_not_run(work, queue, redis):
    job = queue.enqueue(jobs.note, 'canceled')
    job.cancel()
    work.burst()
    assert job.get_status() == JobStatus.CANCELED
    assert job.id in queue.canceled_job_registry
    assert redis.lrange('notes', 0, -1) == []


def test_jobs_enqueued_at_the_front_run_first(work, queue, redis):
    for tag in ('first', 'second'):
        queue.enqueue(jobs.note, tag)
    queue.enqueue(jobs.note, 'urgent', at_front=True)
    work.burst()
    assert redis.lrange('notes', 0, -1) == [b'urgent', b'first', b'second']


def test_a_large_result_comes_back_whole(work, queue):
    job = queue.enqueue(jobs.big, 3_000_000)
    assert len(result_of(work, job)) == 3_000_000


def test_a_job_can_be_run_again_by_another_worker(work, queue, redis):
    """What a worker leaves behind is whole: RQ's own worker takes the failed job up from there."""
    job = queue.enqueue(jobs.fail_until, 'run', 2)
    work.burst()
    assert job.is_failed
    job.requeue()
    SimpleWorker([queue], connection=redis).work(burst=True)
    assert job.return_value(refresh=True) == 'at last'
