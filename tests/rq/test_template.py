"""What a worker of pool's Python template does with RQ's jobs; the test plays supervisor and broker."""

import base64
import json
import os
import subprocess
import sys
import time
import zlib
from datetime import timedelta
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from rq import Queue
from rq.executions import ExecutionRegistry
from rq import Repeat
from rq.job import Callback, JobStatus, Retry
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer

import jobs
from support.worker import APP

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / 'python'), str(TESTS.parent / 'python')]

from pool_template.rq import code as rq_code  # noqa: E402
from supervisor import FAILURE, REJECTED, SUCCESS, Template  # noqa: E402

SETTLED = 6
WHOLE, CALLBACKS = 1, 3
NAME = 'pool.1'
EXECUTION = 'e' * 32


class Pool:
    """A template and its first worker, which the broker would have registered."""

    def __init__(self, redis, url, fresh=False, **options):
        rq = {'url': url, 'worker_name': 'pool.{}', 'queues': {'default': ['default']}, 'path': [str(APP)], **options}
        self.redis = redis
        self.template = Template({}, python=sys.executable, environment={'PYTHONPATH': str(APP)})
        self.template.ready('jobs', dialect='rq', options=rq, fresh=fresh)
        self.worker = self.template.worker()
        redis.hset(f'rq:worker:{NAME}', mapping={'state': 'idle', 'queues': 'default'})

    def plain(self, job, timeout_ms=0):
        """Runs it as a plain job: taken from its queue and started as the broker does it."""
        self.start(job)
        return self.worker.call(
            'rq', payload=self.redis.hget(job.key, 'data'), job=job.id, queue=job.origin, timeout_ms=timeout_ms
        )

    def start(self, job):
        self.redis.lrem(f'rq:queue:{job.origin}', 1, job.id)
        with self.redis.pipeline() as pipeline:
            job.prepare_for_execution(NAME, pipeline)
            pipeline.zadd(f'rq:wip:{job.origin}', {f'{job.id}:{EXECUTION}': time.time() + 90})
            pipeline.execute()

    def whole(self, job):
        """Runs it as a job that RQ's own code is to end."""
        return self.by_hash(job, WHOLE)

    def with_callbacks(self, job):
        """Runs it as a job whose callbacks are the worker's to call, and whose end is the broker's."""
        return self.by_hash(job, CALLBACKS)

    def by_hash(self, job, kind):
        self.start(job)
        return self.worker.call('rq', kind=kind, job=job.id, queue=job.origin, payload=self.payload(job))

    def payload(self, job):
        """What the broker reads of it, see `add_hash` in `lua/job.lua`."""
        texts = [text for pair in self.redis.hgetall(job.key).items() for text in pair]
        return EXECUTION.encode() + b''.join(len(text).to_bytes(4, 'big') + text for text in texts)

    def keep_house(self, **order):
        return self.worker.call('rq:maintenance', kind=2, payload=json.dumps(order).encode())


@pytest.fixture
def pool(redis, server):
    """Starts a pool with these options of the dialect."""
    started = []

    def start(**options):
        started.append(Pool(redis, server.url, **options))
        return started[-1]

    yield start
    for pool in started:
        with pool.template:
            pass


def value_of(job, done, serializer=None):
    assert done.code == SUCCESS, done
    return (serializer or job.serializer).loads(done.data) if done.data else None


def is_settled(job, redis):
    """Nothing is left of the execution."""
    assert not ExecutionRegistry(job.id, redis).get_execution_ids()
    assert not redis.zrange(f'rq:wip:{job.origin}', 0, -1)
    assert not redis.lrange(f'rq:queue:{job.origin}:intermediate', 0, -1)
    assert redis.hget(f'rq:worker:{NAME}', 'state') == b'idle'
    return True


@pytest.mark.parametrize(
    'function, args, kwargs, expected',
    [
        (jobs.add, (1,), {'b': 2}, 3),
        (jobs.nothing, (), {}, None),
        (jobs.add_later, (1, 2), {}, 3),
        (jobs.Greeter('Hello').greet, ('Ann',), {}, 'Hello, Ann'),
        (jobs.Greeter('Hello').greet_later, ('Ann',), {}, 'Hello, Ann'),
        (jobs.Greeter.limited, (5,), {}, 3),
        (len, ([1, 2],), {}, 2),
        (jobs.unpicklable, (), {}, 'Unserializable return value'),
    ],
    ids='function nothing coroutine method async-method classmethod builtin unpicklable'.split(),
)
def test_a_plain_job_returns_its_serialized_value(pool, queue, function, args, kwargs, expected):
    job = queue.enqueue(function, args=args, kwargs=kwargs)
    assert value_of(job, pool().plain(job)) == expected


def test_a_plain_job_costs_redis_nothing(pool, queue, redis):
    pool = pool()
    jobs_ = [queue.enqueue(jobs.add, 1, 2) for _ in range(3)]
    clients = len(redis.client_list())
    for job in jobs_:
        assert value_of(job, pool.plain(job)) == 3
    assert len(redis.client_list()) == clients


def test_a_failure_carries_the_traceback_as_python_prints_it(pool, queue):
    done = pool().plain(queue.enqueue(jobs.fail, 'bad luck'))
    assert done.code == FAILURE
    text = done.error['detail']
    assert text.startswith('Traceback (most recent call last):\n  File')
    assert text.endswith('ValueError: bad luck\n')
    assert '<pool>' not in text and 'in fail' in text
    assert (done.error['kind'], done.error['message']) == ('ValueError', 'bad luck')


def test_data_that_cannot_be_read_fails_as_in_rq(pool, queue, redis):
    job = queue.enqueue(jobs.add, 1, 2)
    redis.hset(job.key, 'data', zlib.compress(b'garbage'))
    done = pool().plain(job)
    assert done.code == FAILURE and 'rq.exceptions.DeserializationError' in done.error['detail']


def test_a_function_that_is_not_there_fails_as_in_rq(pool, queue):
    done = pool().plain(queue.enqueue('jobs.absent'))
    assert done.code == FAILURE and 'ValueError: Invalid attribute name: absent' in done.error['detail']


@pytest.mark.parametrize('function', ['jobs.overrun', 'jobs.overrun_and_tidy'])
def test_a_plain_job_is_interrupted_with_the_exception_of_rq(pool, queue, function):
    done = pool().plain(queue.enqueue(function, job_timeout=1), timeout_ms=1000)
    assert done.code == FAILURE
    expected = 'rq.timeouts.JobTimeoutException: Task exceeded maximum timeout value (1 seconds)\n'
    assert done.error['detail'].endswith(expected)


def test_a_plain_job_can_ask_for_itself(pool, queue):
    job = queue.enqueue(jobs.who, job_id='me')
    known = value_of(job, pool().plain(job))
    assert (known['id'], known['worker'], known['env']) == ('me', NAME, [NAME, 'me'])
    assert known['status'] == 'started' and known['leader']


def test_a_process_for_each_job_knows_its_workers_name(pool, queue):
    pool = pool(fresh=True)
    job = queue.enqueue(os.getenv, 'RQ_WORKER_ID')
    payload = pool.redis.hget(job.key, 'data')
    for ordinal in (1, 1, 2, 2, 1):
        done = pool.worker.call('rq', payload=payload, job=job.id, queue=job.origin, ordinal=ordinal)
        assert value_of(job, done) == f'pool.{ordinal}'


def test_each_job_sees_its_own_id(pool, queue):
    pool = pool()
    for name in ('first-long-name', 'b', 'third'):
        job = queue.enqueue(subprocess.getoutput, 'echo $RQ_JOB_ID', job_id=name)
        assert value_of(job, pool.plain(job)) == name


def test_a_plain_job_saves_meta(pool, queue):
    job = queue.enqueue(jobs.save_meta, progress=50, meta={'owner': 'Ann'})
    assert value_of(job, pool().plain(job)) == {'owner': 'Ann', 'progress': 50}
    assert job.get_meta() == {'owner': 'Ann', 'progress': 50}


def test_signals_are_those_of_a_work_horse(pool, queue):
    job = queue.enqueue(jobs.signals)
    assert value_of(job, pool().plain(job)) == [True, True]


def test_a_job_that_asks_to_be_run_again_is_finished_by_rq(pool, queue, redis):
    job = queue.enqueue(jobs.ask_retry, 2, interval=30)
    assert pool().plain(job).code == SETTLED
    assert job.get_status() is JobStatus.SCHEDULED and job.latest_result().type.name == 'RETRIED'
    assert is_settled(job, redis)


def test_exception_handlers_and_the_failed_registry_see_a_plain_failure(pool, queue, redis):
    job = queue.enqueue(jobs.fail)
    assert pool(exception_handlers=['jobs.handle']).plain(job).code == SETTLED
    assert redis.lrange('notes', 0, -1) == [f'handle {job.id} ValueError'.encode()]
    assert job.get_status() is JobStatus.FAILED and job.id in FailedJobRegistry(queue=queue)
    assert 'in fail' in job.latest_result().exc_string
    assert is_settled(job, redis)


def test_a_job_that_changes_itself_is_finished_by_rq(pool, queue, redis):
    job = queue.enqueue('jobs.set_result_ttl', 4000)
    assert pool().plain(job).code == SETTLED
    assert job.return_value() == 'set'
    assert 3000 < redis.ttl(job.key) <= 4000
    assert is_settled(job, redis)


def test_a_result_above_the_limit_of_a_frame_is_kept_by_rq(pool, queue, redis):
    job = queue.enqueue(jobs.big, 2 << 20)
    assert pool().plain(job).code == SETTLED
    assert len(job.return_value()) == 2 << 20
    assert is_settled(job, redis)


def test_a_whole_job_goes_through_rq_from_start_to_end(pool, queue, redis):
    job = queue.enqueue(jobs.add, 1, 2, on_success=Callback(jobs.succeeded))
    child = queue.enqueue(jobs.nothing, depends_on=job)
    assert pool().whole(job).code == SETTLED
    assert job.return_value() == 3 and job.get_status() is JobStatus.FINISHED
    assert job.id in FinishedJobRegistry(queue=queue)
    assert redis.lrange('notes', 0, -1) == [f'success {job.id} 3 finished'.encode()]
    assert child.get_status() is JobStatus.QUEUED
    assert job.latest_result().worker_name == NAME
    assert redis.hget(f'rq:worker:{NAME}', 'successful_job_count') == b'1'
    assert is_settled(job, redis)


def test_a_whole_job_that_fails_runs_its_callback_and_its_retries(pool, queue, redis):
    job = queue.enqueue(jobs.fail, retry=Retry(max=1), on_failure=Callback(jobs.failed))
    pool = pool()
    assert pool.whole(job).code == SETTLED
    assert job.get_status() is JobStatus.QUEUED
    assert pool.whole(job).code == SETTLED
    assert job.get_status() is JobStatus.FAILED
    assert redis.llen('notes') == 2
    assert is_settled(job, redis)


def test_a_whole_job_is_interrupted_by_rq_itself(pool, queue, redis):
    job = queue.enqueue(jobs.overrun, job_timeout=1, on_failure=Callback(jobs.failed))
    assert pool().whole(job).code == SETTLED
    assert 'JobTimeoutException' in job.latest_result().exc_string


def commands_during(redis, run):
    """What Redis is sent while this runs, in order, and its outcome."""
    redis.slowlog_reset()
    redis.config_set('slowlog-log-slower-than', 0)
    try:
        outcome = run()
    finally:
        redis.config_set('slowlog-log-slower-than', -1)
    sent = [entry['command'].split()[0].decode() for entry in reversed(redis.slowlog_get(100))]
    return sent[1:], outcome


@pytest.mark.rq3
def test_a_job_with_callbacks_asks_redis_nothing(pool, queue, redis):
    pool = pool()
    for job in [queue.enqueue(jobs.add, 1, 2, on_success=Callback('builtins.print')) for _ in range(2)]:
        pool.start(job)
        payload = pool.payload(job)
        sent, done = commands_during(redis, lambda: pool.worker.call('rq', kind=CALLBACKS, job=job.id, payload=payload))
        assert value_of(job, done) == 3 and sent == []


@pytest.mark.rq3
def test_callbacks_see_the_job_as_in_rq_and_the_broker_ends_it(pool, queue, redis):
    job = queue.enqueue(jobs.who, on_success=Callback(jobs.succeeded), meta={'owner': 'Ann'})
    known = value_of(job, pool().with_callbacks(job))
    assert (known['id'], known['worker'], known['status']) == (job.id, NAME, 'started')
    [note] = redis.lrange('notes', 0, -1)
    assert note.startswith(f'success {job.id} '.encode()) and note.endswith(b' finished')


@pytest.mark.rq3
def test_a_failure_callback_is_called_once_before_the_broker_ends_the_job(pool, queue, redis):
    job = queue.enqueue(jobs.fail, 'bad luck', on_failure=Callback(jobs.failed), on_success=Callback(jobs.succeeded))
    done = pool().with_callbacks(job)
    assert done.code == FAILURE and done.error['detail'].endswith('ValueError: bad luck\n')
    assert redis.lrange('notes', 0, -1) == [f'failure {job.id} ValueError bad luck True'.encode()]


@pytest.mark.rq3
def test_a_callback_that_raises_replaces_the_outcome(pool, queue, redis):
    pool = pool()
    job = queue.enqueue(jobs.add, 1, 2, on_success=Callback(jobs.raise_in_callback), on_failure=Callback(jobs.failed))
    assert pool.with_callbacks(job).error['message'] == 'callback broke'
    other = queue.enqueue(jobs.fail, on_failure=Callback(jobs.raise_in_callback))
    assert pool.with_callbacks(other).error['message'] == 'callback broke'
    assert redis.lrange('notes', 0, -1) == [
        f'raising {job.id}'.encode(), f'failure {job.id} RuntimeError callback broke True'.encode(),
        f'raising {other.id}'.encode(),
    ]  # fmt: skip


@pytest.mark.parametrize('when', ['function', 'success', 'failure'])
def test_rq_ends_a_job_with_callbacks_that_was_changed(pool, queue, redis, when):
    function = {'function': 'jobs.set_result_ttl', 'success': 'jobs.add', 'failure': 'jobs.fail'}[when]
    callbacks = {'success': {'on_success': Callback('jobs.keep_longer')}, 'failure': {'on_failure': Callback('jobs.keep_longer')}}
    job = queue.enqueue(function, 4000, failure_ttl=4000, **callbacks.get(when, {'on_success': Callback(jobs.succeeded)}))
    assert pool().with_callbacks(job).code == SETTLED
    assert 3000 < redis.ttl(job.key) <= 5000 and is_settled(job, redis)
    assert redis.llen('notes') == 1


def test_rq_ends_a_job_with_callbacks_that_asks_to_be_run_again(pool, queue, redis):
    job = queue.enqueue(jobs.ask_retry, 2, interval=30, on_success=Callback(jobs.succeeded))
    assert pool().with_callbacks(job).code == SETTLED
    assert job.get_status() is JobStatus.SCHEDULED and redis.lrange('notes', 0, -1) == [b'asked']
    assert is_settled(job, redis)


def test_exception_handlers_come_behind_the_failure_callback(pool, queue, redis):
    job = queue.enqueue(jobs.fail, on_failure=Callback(jobs.failed))
    assert pool(exception_handlers=['jobs.handle']).with_callbacks(job).code == SETTLED
    assert [note.split()[0] for note in redis.lrange('notes', 0, -1)] == [b'failure', b'handle']
    assert job.get_status() is JobStatus.FAILED and is_settled(job, redis)


@pytest.mark.rq3
def test_rq_ends_a_job_in_three_round_trips(pool, queue, redis):
    """One for each of the first two commands, and one for the transaction."""
    pool = pool()
    for job in [queue.enqueue(jobs.add, 1, 2, repeat=Repeat(times=1)) for _ in range(2)]:
        pool.start(job)
        payload = pool.payload(job)
        sent, done = commands_during(redis, lambda: pool.worker.call('rq', kind=WHOLE, job=job.id, payload=payload))
        assert done.code == SETTLED and job.get_status() is JobStatus.QUEUED
    assert sent[:3] == ['WATCH', 'SMEMBERS', 'MULTI'] and sent.count('MULTI') == 1


def test_a_payload_that_is_cut_off_is_refused(pool, queue):
    pool = pool()
    job = queue.enqueue(jobs.add, 1, 2)
    done = pool.worker.call('rq', kind=WHOLE, job=job.id, payload=pool.payload(job)[:-1])
    assert done.code == FAILURE and 'the fields of a job end at byte' in done.error['message']


def test_a_plain_job_that_was_deleted_is_passed_over(pool, queue):
    job = queue.enqueue(jobs.add, 1, 2)
    pool = pool(job_class='custom.CountedJob')
    job.delete()
    assert pool.worker.call('rq', job=job.id).code == SETTLED


def test_another_serializer_reads_and_writes(pool, redis):
    queue = Queue(connection=redis, serializer=JSONSerializer)
    job = queue.enqueue(jobs.add, 1, b=2)
    assert value_of(job, pool(serializer='json').plain(job), JSONSerializer) == 3


@pytest.mark.rq3
def test_a_job_class_that_changes_how_jobs_run_is_asked(pool, redis):
    job = Queue(connection=redis).enqueue(jobs.add, 1, 2)
    assert value_of(job, pool(job_class='custom.CountedJob').plain(job)) == 3
    assert redis.lrange('notes', 0, -1) == [f'perform {job.id}'.encode()]


def test_a_worker_class_brings_its_handler(pool, queue, redis):
    job = queue.enqueue(jobs.fail)
    assert pool(worker_class='custom.HandlingWorker').plain(job).code == SETTLED
    assert redis.lrange('notes', 0, -1) == [f'handle {job.id} ValueError'.encode()]


def test_a_plain_job_that_came_to_have_dependents_is_finished_by_order(pool, queue, redis):
    job = queue.enqueue(jobs.add, 1, 2)
    pool = pool()
    done = pool.plain(job)
    child = queue.enqueue(jobs.nothing, depends_on=job)
    order = {'job_id': job.id, 'execution_id': EXECUTION, 'worker_name': NAME, 'outcome': 'success'}
    result = base64.b64encode(done.data).decode()
    assert pool.keep_house(do='finish', result=result, started=time.time() - 1, ended=time.time(), **order).code == SUCCESS
    assert job.return_value() == 3 and child.get_status() is JobStatus.QUEUED
    assert is_settled(job, redis)


def test_a_lost_job_fails_with_the_words_of_rq(pool, queue, redis):
    job = queue.enqueue(jobs.add, 1, 2)
    pool = pool()
    pool.plain(job)
    order = {'job_id': job.id, 'execution_id': EXECUTION, 'worker_name': 'pool.9'}
    pool.keep_house(do='lost', how='killed by signal 9 (SIGKILL)', **order)
    assert job.get_status() is JobStatus.FAILED
    text = 'Work-horse terminated unexpectedly; waitpid returned 9 (signal 9); '
    assert job.latest_result().exc_string == text and job.latest_result().worker_name == 'pool.9'
    assert is_settled(job, redis)


def test_a_stopped_job_runs_its_callback(pool, queue, redis):
    job = queue.enqueue(jobs.add, 1, 2, on_stopped=Callback(jobs.stopped), retry=Retry(max=3))
    pool = pool()
    pool.plain(job)
    pool.keep_house(do='stopped', job_id=job.id, worker_name=NAME)
    assert job.get_status() is JobStatus.STOPPED and job.id in FailedJobRegistry(queue=queue)
    assert redis.lrange('notes', 0, -1) == [f'stopped {job.id}'.encode()]
    assert is_settled(job, redis)


def test_maintenance_fails_abandoned_jobs(pool, queue, redis):
    job = queue.enqueue(jobs.add, 1, 2)
    pool = pool()
    pool.plain(job)
    for member in redis.zrange('rq:wip:default', 0, -1):
        redis.zadd('rq:wip:default', {member: 1})
    assert pool.keep_house(do='maintain', queues=['default']).code == SUCCESS
    assert job.get_status() is JobStatus.FAILED
    assert 'AbandonedJobError' in job.latest_result().exc_string
    assert not StartedJobRegistry(queue=queue).get_job_ids()


@pytest.mark.rq3
def test_rate_limited_jobs_that_are_due_go_through_their_registry(pool, queue, redis):
    from rq.rate_limit import RateLimit

    job = queue.enqueue_in(timedelta(seconds=-1), jobs.add, 1, 2, rate_limit=RateLimit('key', 1))
    assert pool().keep_house(do='enqueue', queue='default', job_ids=[job.id, 'gone']).code == SUCCESS
    assert job.get_status() is JobStatus.QUEUED and queue.get_job_ids() == [job.id]
    assert not queue.scheduled_job_registry.get_job_ids()


def test_an_order_that_makes_no_sense_is_refused(pool):
    pool = pool()
    assert pool.keep_house(do='dance').code == FAILURE
    assert pool.worker.call('rq', kind=63).code == REJECTED


def test_a_class_that_is_not_there_does_not_load(redis, server):
    with Template({}, python=sys.executable) as template:
        answer = template.load(dialect='rq', options={'url': server.url, 'job_class': 'nowhere.Job'})
    assert answer['type'] == 'failed' and 'cannot set up RQ' in answer['error'], answer


TRACER = """
import functools
import rq.job, jobs

def traced(perform):
    @functools.wraps(perform)
    def run(job):
        jobs.note(f'traced {job.id}')
        return perform(job)
    return run

rq.job.Job.perform = traced(rq.job.Job.perform)
"""


def test_a_class_with_keys_of_its_own_does_not_load(server):
    environment = {'PYTHONPATH': str(APP), 'SUITE_REDIS_URL': server.url}
    with Template({}, python=sys.executable, environment=environment) as template:
        answer = template.load(dialect='rq', options={'url': server.url, 'job_class': 'custom.OwnNamespaceJob'})
    assert answer['type'] == 'failed' and "set `rq.job_key_prefix` to 'own:job:'" in answer['error'], answer


@pytest.mark.rq3
def test_a_tracer_that_patches_rq_sees_each_job(queue, redis, server):
    """As Sentry, New Relic and OpenTelemetry patch it."""
    environment = {'PYTHONPATH': str(APP)}
    with Template({'tracer.py': TRACER}, python=sys.executable, environment=environment) as template:
        template.ready('tracer', dialect='rq', options={'url': server.url, 'worker_name': 'pool.{}', 'queues': {'default': ['default']}})
        worker = template.worker()
        job = queue.enqueue(jobs.add, 1, 2)
        assert value_of(job, worker.call('rq', payload=redis.hget(job.key, 'data'), job=job.id)) == 3
    assert redis.lrange('notes', 0, -1) == [f'traced {job.id}'.encode()]


@pytest.fixture
def waits(monkeypatch):
    """How long redis-py slept."""
    slept = []
    monkeypatch.setattr('redis.retry.sleep', slept.append)
    return slept


def patience():
    return rq_code._Patience(rq_code._Backoff(), rq_code._RETRIES)


def failing(times):
    """A call that fails so often; `redis-py` connects again within it, by the same rules."""
    left = iter(range(times))

    def call():
        if next(left, None) is not None:
            raise RedisConnectionError('gone')
        return 'answer'

    return call


def test_a_connection_that_was_cut_is_made_anew_at_once(waits):
    assert patience().call_with_retry(failing(1), lambda error: None) == 'answer'
    assert waits == []


def test_a_server_that_is_away_is_tried_each_second_for_minutes(waits):
    with pytest.raises(RedisConnectionError):
        patience().call_with_retry(failing(10_000), lambda error: None)
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8] and set(waits[4:]) == {1.0}
    assert 200 < sum(waits) < 300


def test_tries_within_a_try_do_not_multiply(waits):
    retry, tries = patience(), []

    def connect():
        tries.append('connect')
        raise RedisConnectionError('gone')

    with pytest.raises(RedisConnectionError):
        retry.call_with_retry(lambda: retry.call_with_retry(connect, lambda error: None), lambda error: None)
    assert len(tries) == rq_code._RETRIES + 1

def values_of(pool, queue, *names):
    """What plain jobs of these functions of `changes` return, one after the other in one worker."""
    jobs_ = [queue.enqueue(f'changes.{name}') for name in names]
    return [(job.id, value_of(job, pool.plain(job))) for job in jobs_]


@pytest.mark.parametrize('fresh', [False, True], ids=['warm', 'fresh'])
def test_programs_see_their_own_jobs_id_after_a_job_restored_its_environment(pool, queue, fresh):
    found = values_of(pool(fresh=fresh), queue, 'seen_id', 'patches', 'seen_id')
    assert [seen for _, seen in found] == [[id, id] for id, _ in found]


@pytest.mark.parametrize('fresh', [False, True], ids=['warm', 'fresh'])
def test_programs_see_their_own_jobs_id_after_a_job_emptied_its_environment(pool, queue, fresh):
    pool = pool(fresh=fresh)
    values_of(pool, queue, 'empties')
    job = queue.enqueue(subprocess.getoutput, 'echo $RQ_JOB_ID')
    assert value_of(job, pool.plain(job)) == job.id


def test_an_id_of_any_length_is_seen(pool, queue):
    pool = pool()
    for id in ('short', 'x' * 300, 'short-again'):
        job = queue.enqueue('changes.seen_id', job_id=id)
        assert value_of(job, pool.plain(job)) == [id, id]


@pytest.mark.parametrize('fresh, expected', [(False, [1, None, 2]), (True, [1, None, 1])], ids=['warm', 'fresh'])
def test_a_function_that_a_job_replaces_is_heeded_by_the_next(pool, queue, fresh, expected):
    assert [value for _, value in values_of(pool(fresh=fresh), queue, 'version', 'upgrade', 'version')] == expected


@pytest.mark.parametrize('fresh', [False, True], ids=['warm', 'fresh'])
def test_after_a_coroutine_a_job_finds_an_event_loop_as_before(pool, queue, fresh):
    if sys.version_info >= (3, 14):
        pytest.skip('this Python makes no loop for those who ask')
    pool = pool(fresh=fresh)
    assert [value for _, value in values_of(pool, queue, 'old_style', 'later', 'old_style')] == [1, 1, 1]


def test_a_callable_that_answers_to_every_attribute_gets_the_jobs_arguments(pool, queue):
    job = queue.enqueue('changes.proxy', 1, 2)
    assert value_of(job, pool().plain(job)) == '(1, 2)'


def test_a_failure_with_a_file_name_in_it_can_be_read_by_everybody(pool, queue):
    error = pool().plain(queue.enqueue('changes.fail_with_a_file_name')).error
    assert (error['kind'], error['message']) == ('ValueError', r'cannot read caf\udce9.csv')
    json.dumps(error, ensure_ascii=False).encode()
