"""The job of a group that `pool enqueue --on-failure` names: once, at the first failure. Pools decide it."""

import json

import pytest
from rq.command import send_stop_job_command
from rq.group import Group
from rq.job import Job, JobStatus

import jobs
from support.app import entered, notes
from support.cli import needs_pool
from support.wait import until
from support.worker import TARGETS, Work

pytestmark = needs_pool

PAST = 1_000_000_000


@pytest.fixture
def enqueue(cli, tmp_path):
    """Enqueues a group of these jobs, with one that reports the first failure; its id."""

    def enqueue(*lines, options=()):
        file = tmp_path / 'group.jsonl'
        file.write_text('\n'.join(json.dumps(line) for line in lines))
        return cli('enqueue', '--group', file, '--on-failure', 'jobs.report ["first"]', *options).text()

    return enqueue


@pytest.fixture
def stock(redis, server):
    """RQ's own workers, beside those under test."""
    stock = Work(TARGETS['stock'], server)
    yield stock
    stock.close()


def line(task, *args, **fields):
    return {'task': f'jobs.{task}', 'args': list(args), **fields}


def reports(redis):
    return [json.loads(note.removeprefix('report ')) for note in notes(redis) if note.startswith('report')]


def left_waiting(redis):
    """What there is of groups that still wait for a failure."""
    kept = [key for key in redis.keys('rq:*') if key.endswith((b':dependents', b':dependencies')) or b'first_failures' in key]
    return kept + redis.zrange('rq:deferred:default', 0, -1)


def test_it_runs_while_others_still_run(enqueue, work, redis, cli):
    group = enqueue(line('hold', id='long'), line('fail', id='bad'), line('add', 1, id='good'))
    work.start(workers=2)
    until(lambda: reports(redis), 'the failure is reported')
    assert Job.fetch('long', redis).is_started
    assert reports(redis) == [[[{'first_failed': 'bad', 'group': group, 'total': 3}, 'first'], {}]]
    redis.rpush('gate', 'open')
    states = {line['id']: line['state'] for line in cli('wait', '--group', group).end(status=1)}
    assert states == {'long': 'finished', 'bad': 'dead', 'good': 'finished'}
    work.burst()
    assert len(reports(redis)) == 1 and left_waiting(redis) == []


def test_it_is_gone_when_none_has_failed(enqueue, work, redis, queue, cli):
    group = enqueue(line('add', 1, id='a'), line('add', 2, id='b'), line('nothing', id='c', result_ttl='0s'))
    assert queue.deferred_job_registry.count == 1
    work.burst()
    assert notes(redis) == [] and left_waiting(redis) == []
    assert sorted(redis.keys('rq:job:*')) == [b'rq:job:a', b'rq:job:b']
    assert len(cli('wait', '--group', group).end()) == 2


def test_a_retry_that_succeeds_is_no_failure(enqueue, work, redis):
    enqueue(line('fail_until', 'run', 2, retries=1), line('add', 1))
    work.burst()
    assert redis.get('run') == b'2' and notes(redis) == [] and left_waiting(redis) == []


def test_many_failures_at_the_same_time_are_one(enqueue, work, redis):
    enqueue(*[line('hold_and_fail', id=name) for name in 'abcd'])
    work.start(workers=4)
    for _ in range(4):
        redis.blpop(['entered'], timeout=30)
    redis.rpush('gate', *'1234')
    until(lambda: all(Job.fetch(name, redis).is_failed for name in 'abcd'), 'all have failed')
    until(lambda: reports(redis) and left_waiting(redis) == [], 'the failure is reported')
    work.burst()
    assert len(reports(redis)) == 1


def test_a_member_may_fail_by_rqs_own_code(enqueue, work, redis, queue):
    """A job with a callback is RQ's own code's, and so is its end."""
    group = enqueue(line('add', 1, id='a'), line('fail', id='bad'), line('hold', id='long'))
    redis.hset('rq:job:bad', mapping={'success_callback_name': 'jobs.succeeded', 'success_callback_timeout': 60})
    work.start(workers=3)
    until(lambda: reports(redis), 'the failure is reported')
    assert reports(redis) == [[[{'first_failed': 'bad', 'group': group, 'total': 3}, 'first'], {}]]
    assert Job.fetch('long', redis).is_started
    redis.rpush('gate', 'open')


@pytest.mark.parametrize('callback', [False, True])
@pytest.mark.parametrize('death', ['die', 'leave'])
def test_a_member_may_die_with_its_process(enqueue, work, redis, death, callback):
    arguments = [] if death == 'die' else [3]
    enqueue(line('add', 1), line(death, *arguments, id='dead'), line('add', 2))
    if callback:
        redis.hset('rq:job:dead', mapping={'success_callback_name': 'jobs.succeeded', 'success_callback_timeout': 60})
    work.burst()
    [[[told, _], _]] = reports(redis)
    assert told['first_failed'] == 'dead' and left_waiting(redis) == []


def test_a_member_may_be_abandoned(enqueue, work, redis):
    enqueue(line('hold', id='lost'))
    running = work.start()
    entered(redis)
    running.kill()
    until(lambda: redis.info('clients')['blocked_clients'] == 0, 'nobody waits any more')
    for member in redis.zrange('rq:wip:default', 0, -1):
        redis.zadd('rq:wip:default', {member: PAST})
        redis.delete(f'rq:execution:{member.decode()}')
    work.burst()
    [[[told, _], _]] = reports(redis)
    assert told['first_failed'] == 'lost' and left_waiting(redis) == []


def test_both_callbacks_may_be_there(enqueue, work, redis):
    enqueue(line('add', 1), line('fail'), options=['--on-done', 'jobs.report ["done"]'])
    work.burst()
    assert sorted(report[0][1] for report in reports(redis)) == ['done', 'first']
    assert redis.zcard('rq:deferred:default') == 0 and not redis.exists('rq:first_failures')


def test_a_member_that_runs_again_by_hand_calls_nobody_again(enqueue, work, redis):
    enqueue(line('fail', id='bad'), line('add', 1))
    work.burst()
    Job.fetch('bad', redis).requeue()
    work.burst()
    assert len(reports(redis)) == 1 and left_waiting(redis) == []


def test_a_member_that_is_stopped_has_not_failed(enqueue, work, redis):
    enqueue(line('hold', id='stopped'), line('add', 1))
    work.start()
    entered(redis)
    send_stop_job_command(redis, 'stopped')
    until(lambda: left_waiting(redis) == [], 'the group has ended')
    assert Job.fetch('stopped', redis).is_stopped and notes(redis) == []


def test_it_can_be_canceled(enqueue, work, redis, queue):
    enqueue(line('fail'), line('add', 1))
    [waiting] = queue.deferred_job_registry.get_job_ids()
    Job.fetch(waiting, redis).cancel()
    work.burst()
    assert notes(redis) == [] and left_waiting(redis) == []
    assert Job.fetch(waiting, redis).is_canceled


def test_a_group_without_members_has_none_that_fails(enqueue, redis):
    enqueue()
    assert redis.keys('*') == []


def test_rqs_json_is_written_too(enqueue, work, redis, monkeypatch):
    monkeypatch.setenv('POOL_SERIALIZER', 'json')
    enqueue(line('add', 1), line('fail', id='bad'))
    work.burst(serializer='json')
    [[[told, _], _]] = reports(redis)
    assert told['first_failed'] == 'bad'


def test_rq_sees_a_job_that_is_deferred(enqueue, redis, queue):
    group = enqueue(line('add', 1))
    [waiting] = queue.deferred_job_registry.get_job_ids()
    job = Job.fetch(waiting, redis)
    assert job.is_deferred and job.func_name == 'jobs.report'
    assert job.args == ({'group': group, 'total': 1}, 'first')
    assert len(Group.fetch(group, redis).get_jobs()) == 1


def test_no_worker_of_rq_is_given_anything_to_do_for_it(enqueue, stock, redis, queue):
    enqueue(line('fail', id='bad'), line('add', 1))
    assert len(queue.job_ids) == 2 and redis.keys('rq:job:*:dependents') == []
    [waiting] = queue.deferred_job_registry.get_job_ids()
    stock.burst()
    assert Job.fetch('bad', redis).is_failed
    assert Job.fetch(waiting, redis).is_deferred and notes(redis) == []


def test_workers_of_both_worlds_share_a_group(enqueue, work, stock, redis, cli):
    group = enqueue(*[line('fail' if number % 5 == 0 else 'add', number) for number in range(1, 41)])
    work.start(workers=2)
    stock.start(workers=2)
    ended = cli('wait', '--group', group).end(status=1)
    assert len(ended) == 40
    work.burst()  # its housekeeping finds what RQ's workers ended last
    assert len(reports(redis)) == 1 and left_waiting(redis) == []


def test_a_failure_under_an_rq_worker_is_found_by_housekeeping(enqueue, work, redis, queue):
    """A worker of RQ ended the member: it knows nothing of the group's callback."""
    enqueue(line('fail', id='bad'), line('add', 1))
    job = Job.fetch('bad', redis)
    queue.remove(job)
    job.set_status(JobStatus.FAILED)
    work.burst()
    [[[told, _], _]] = reports(redis)
    assert told['first_failed'] == 'bad' and left_waiting(redis) == []


def test_a_group_whose_last_member_is_canceled_is_tidied_up(enqueue, work, redis):
    enqueue(line('add', 1, id='a'))
    Job.fetch('a', redis).cancel()
    work.burst()
    assert notes(redis) == [] and left_waiting(redis) == []
