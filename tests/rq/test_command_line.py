"""`pool enqueue`, `result`, `wait` and `dead` on a Redis server: RQ reads what they write, and they what RQ writes."""

import json
import os
import subprocess
import time
from datetime import date
from pathlib import Path

import pytest
from rq import Queue, Retry
from rq.job import Job, JobStatus
from rq.results import Result

import jobs
from support.fingerprint import differences, fingerprint
from support.near import near
from support.worker import ROOT

POOL = os.environ.get('POOL_BIN', str(ROOT / 'target' / 'debug' / 'pool'))
pytestmark = pytest.mark.skipif(not Path(POOL).exists(), reason='pool is not built')


@pytest.fixture
def pool(redis, server):
    """Runs `pool VERB ...` on the server of the suite; returns what it prints."""

    def run(*words, status=0, **env):
        command = [POOL, *words, '--broker', server.url]
        done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=60)
        assert done.returncode == status, f'{command}: {done}'
        return done.stdout if status == 0 else done.stderr

    run.url = server.url
    return run


@pytest.mark.parametrize('serializer', ['pickle', 'json'])
def test_a_job_is_written_as_rq_writes_it(pool, queue, redis, serializer):
    values = [1, 2.5, None, True, 'é"\'\n', [1, [2]], {'a': {}}, 2**70, -1, 10**10, 1e16]
    Queue(connection=redis, serializer=serializer).enqueue('jobs.note', *values, job_id='same')
    stock = fingerprint(redis)
    redis.flushall()
    pool('enqueue', 'jobs.note', json.dumps(values), '--id', 'same', POOL_SERIALIZER=serializer)
    ours = fingerprint(redis)
    for state in stock, ours:
        job = Job.fetch('same', connection=redis, serializer=serializer) if state is ours else None
        state['rq:job:same']['value'].pop('data')
    assert list(differences(stock, ours)) == []
    assert job.func_name == 'jobs.note'
    assert list(job.args) == values and job.kwargs == {}


def test_it_says_where_nobody_moves_delayed_jobs(pool, redis):
    def said(*words):
        command = [POOL, 'enqueue', 'jobs.nothing', *words, '--broker', pool.url]
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stderr

    note = 'no scheduler moves jobs that come due into the queue `default` now'
    assert note in said('--in', '1h') and note in said('--at', '2999-01-01 00:00')
    redis.set('rq:scheduler-lock:default', 'a scheduler of RQ')
    assert note not in said('--in', '1h') and note not in said()


def test_its_options_are_those_of_rq(pool, queue, redis):
    queue.enqueue(
        'jobs.add', kwargs={'b': 1, 'a': 2}, job_id='same', job_timeout=20, result_ttl=5, retry=jobs.Retry(3)
    )
    stock = fingerprint(redis)
    redis.flushall()
    line = '--timeout 20 --result-ttl 5 --retries 3 --id same'.split()
    pool('enqueue', 'jobs.add', '{"b": 1, "a": 2}', *line)
    ours = fingerprint(redis)
    for state in stock, ours:
        state['rq:job:same']['value'].pop('data')
    # The one field that RQ has not: how many retries there were at first.
    assert ours['rq:job:same']['value'].pop('pool_retries') == '3'
    assert list(differences(stock, ours)) == []


def test_a_job_may_be_due_later_and_go_to_the_front(pool, queue):
    last = pool('enqueue', 'jobs.nothing').strip()
    first = pool('enqueue', 'jobs.nothing', '--front').strip()
    assert queue.job_ids == [first, last]
    later = pool('enqueue', 'jobs.nothing', '--in', '1h', '--queue', 'low').strip()
    registry = Queue('low', connection=queue.connection).scheduled_job_registry
    assert registry.get_scheduled_time(later).timestamp() - time.time() == near(3600)
    assert registry.get_job_ids() == [later]
    assert 'is due in' in pool('result', later, status=1)


@pytest.mark.parametrize('serializer', ['pickle', 'json'])
def test_a_worker_runs_it_and_its_result_is_read(pool, work, serializer):
    value = {'b': [1, 2.5, None, True, 'é', {}], 'a': 2**70}
    job = pool('enqueue', 'jobs.note', json.dumps({'tag': 'x', 'result': value}), POOL_SERIALIZER=serializer).strip()
    work.burst(serializer=serializer)
    assert json.loads(pool('result', job, POOL_SERIALIZER=serializer)) == value
    line = json.loads(pool('wait', job, POOL_SERIALIZER=serializer))
    assert (line['id'], line['state'], line['result']) == (job, 'finished', value)


def test_a_result_that_json_can_not_say_is_told_by_its_class(pool, queue, redis, work):
    job = queue.enqueue('jobs.note', 'x', date(2026, 11, 21))
    work.burst()
    told = json.loads(pool('result', job.id))
    assert told['python_object'] == 'datetime.date'
    assert told['serialized_bytes'] > 20


def test_waiting_returns_when_the_job_ends(pool, queue, work):
    work.start()
    assert pool('enqueue', 'jobs.add', '[1, 2]', '--wait=20s') == '3\n'


def test_an_id_is_given_once(pool, queue):
    pool('enqueue', 'jobs.nothing', '--id', 'mine')
    assert 'another job has this id' in pool('enqueue', 'jobs.nothing', '--id', 'mine', status=1)
    assert queue.job_ids == ['mine']


def test_a_key_is_free_again_when_its_job_has_ended(pool, queue, redis, work):
    for _ in range(2):
        assert pool('enqueue', 'jobs.add', '[1]', '--key', 'daily').strip() == 'daily'
    assert queue.job_ids == ['daily']
    work.burst()
    pool('enqueue', 'jobs.add', '[2]', '--key', 'daily')
    assert queue.job_ids == ['daily']
    assert queue.finished_job_registry.get_job_ids() == []
    work.burst()
    assert Job.fetch('daily', connection=redis).return_value() == 2


def test_many_are_added_at_once(pool, queue):
    ids = pool('enqueue', 'jobs.nothing', '--count', '6000').split()
    assert queue.job_ids == ids and len(set(ids)) == 6000


def test_a_serializer_of_the_applications_own_is_refused(pool, queue):
    said = pool('enqueue', 'jobs.nothing', POOL_SERIALIZER='custom.MarkedSerializer', status=1)
    assert 'rq enqueue -S custom.MarkedSerializer' in said
    assert queue.job_ids == []


def test_failed_jobs_are_listed_retried_and_deleted(pool, queue, redis, work):
    failed = [queue.enqueue(jobs.fail, f'no {number}') for number in range(3)]
    work.burst()
    listed = [json.loads(line) for line in pool('dead', 'list', '--json').splitlines()]
    assert {(one['id'], one['task']) for one in listed} == {(job.id, 'jobs.fail') for job in failed}
    assert {tuple(one['arguments']) for one in listed} == {('no 0',), ('no 1',), ('no 2',)}
    assert {(one['error']['kind'], one['error']['message']) for one in listed} == {
        ('ValueError', 'no 0'),
        ('ValueError', 'no 1'),
        ('ValueError', 'no 2'),
    }

    pool('dead', 'retry', failed[0].id)
    assert queue.job_ids == [failed[0].id]
    assert failed[0].get_status() == JobStatus.QUEUED
    pool('dead', 'delete', failed[1].id)
    assert redis.exists(failed[1].key, Result.get_key(failed[1].id)) == 0
    assert queue.failed_job_registry.get_job_ids() == [failed[2].id]
    pool('dead', 'retry', '--all')
    assert queue.job_ids == [failed[0].id, failed[2].id]
    assert 'not put back' in pool('dead', 'retry', failed[1].id, status=1)


@pytest.mark.rq3
def test_jobs_of_a_limit_are_rate_limited_and_run_at_most_so_many_at_once(pool, queue, redis, work):
    from rq.rate_limit import RateLimit, RateLimitRegistry

    queue.enqueue(jobs.note, 'x', job_id='same', rate_limit=RateLimit('db', 2))
    stock = fingerprint(redis)
    redis.flushall()
    pool('enqueue', 'jobs.note', '["x"]', '--limit', 'db=2', '--id', 'same')
    ours = fingerprint(redis)
    for state in stock, ours:
        state['rq:job:same']['value'].pop('data')
    assert list(differences(stock, ours)) == []
    redis.flushall()
    ids = pool('enqueue', 'jobs.meet', '["db"]', '--limit', 'db=2', '--count', '5').split()
    assert len(queue.job_ids) == 2 and RateLimitRegistry('db', redis).get_rate_limited_job_count() == 3
    assert [json.loads(line)['state'] for line in pool('jobs', '--json').splitlines()].count('blocked') == 3
    work.burst(workers=4)
    met = [Job.fetch(job_id, connection=redis).return_value() for job_id in ids]
    assert max(met) == 2, met
    assert RateLimitRegistry('db', redis).get_allowed_job_count() == 0


@pytest.mark.rq3
def test_a_retried_job_with_a_rate_limit_waits_for_its_turn_as_rq_has_it(pool, queue, redis, work):
    from rq.rate_limit import RateLimit, RateLimitRegistry

    limited = [queue.enqueue(jobs.fail, 'no', rate_limit=RateLimit('api', 1)) for _ in range(2)]
    registry, seen = RateLimitRegistry('api', redis), []
    for put_back in (lambda: [job.requeue() for job in limited], lambda: pool('dead', 'retry', *[job.id for job in limited])):
        work.burst()
        assert [job.get_status() for job in limited] == [JobStatus.FAILED] * 2
        put_back()
        states = [job.get_status() for job in limited]
        waits = registry.get_rate_limited_job_ids() == [job.id for job in limited if job.get_status() == 'rate_limited']
        seen.append((sorted(states), waits, registry.get_allowed_job_ids() == queue.job_ids, len(queue.job_ids)))
    assert seen[0] == seen[1] == ([JobStatus.QUEUED, 'rate_limited'], True, True, 1)
    work.burst()
    assert [len(job.results()) for job in limited] == [3, 3]


def test_failures_are_told_where_rq_counts_them(pool, queue, work):
    """RQ forgets how often a retry policy has run a job again."""
    once, twice = queue.enqueue(jobs.fail, 'no'), queue.enqueue(jobs.fail, 'no')
    retried = queue.enqueue(jobs.fail, 'no', retry=Retry(max=2))
    work.burst()
    twice.requeue()
    work.burst()
    listed = [json.loads(line) for line in pool('dead', 'list', '--json').splitlines()]
    assert {one['id']: one['failures'] for one in listed} == {once.id: 1, twice.id: 2, retried.id: None}
    assert 'failures  2' in pool('dead', 'show', twice.id)
    assert 'failures' not in pool('dead', 'show', retried.id).split('arguments')[0]
