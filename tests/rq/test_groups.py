"""Groups that `pool enqueue --group` makes are those of RQ, whoever enqueues, runs, and looks."""

import json
import pickle

import pytest
from rq import Queue
from rq.group import Group
from rq.job import Dependency, Job, JobStatus
from rq.registry import DeferredJobRegistry

import jobs
from support.cli import needs_pool, until_blocked
from support.fingerprint import differences, fingerprint

pytestmark = needs_pool


@pytest.fixture
def enqueue(cli, tmp_path):
    """Enqueues a group of these lines; its id."""

    def enqueue(*lines, options=()):
        file = tmp_path / 'group.jsonl'
        file.write_text('\n'.join(json.dumps(line) for line in lines))
        return cli('enqueue', '--group', file, *options)

    return enqueue


def line(task, *args, **fields):
    return {'task': f'jobs.{task}', 'args': list(args), **fields}


def reports(redis):
    return [json.loads(note.removeprefix(b'report ')) for note in redis.lrange('notes', 0, -1) if b'report' in note]


def test_a_group_is_written_as_rq_writes_it(enqueue, redis, queue):
    lines = [line('add', 1, id='a'), line('add', 2, id='b', queue='other')]
    group = enqueue(*lines, options=['--on-done', 'jobs.report']).text()
    [callback] = DeferredJobRegistry(queue=queue).get_job_ids()
    ours = fingerprint(redis)
    redis.flushall()
    name = Queue.prepare_data
    members = Group(redis, group).enqueue_many(queue, [name('jobs.add', (1,), job_id='a')])
    members += Group(redis, group).enqueue_many(Queue('other', redis), [name('jobs.add', (2,), job_id='b')])
    summary = {'group': group, 'total': 2}
    after = Dependency(jobs=members, allow_failure=True)
    queue.enqueue('jobs.report', kwargs=summary, depends_on=after, job_id=callback)
    left = list(differences(with_calls(ours), with_calls(fingerprint(redis))))
    assert left == [], '\n'.join(left)


def with_calls(state):
    """The state with what the jobs call: a pickle can be written in many ways."""
    for key, kept in state.items():
        if 'data' in kept['value'] and key.startswith('rq:job:'):
            kept['value']['data'][-1] = pickle.loads(kept['value']['data'][-1])
    return state


def test_the_callback_runs_once_when_all_have_ended(enqueue, work, redis, cli):
    lines = [line('add', 1), line('fail'), line('note', 'third')]
    group = enqueue(*lines, options=['--on-done', 'jobs.report [7]']).text()
    assert redis.lrange('notes', 0, -1) == []
    work.burst()
    assert reports(redis) == [[[{'group': group, 'total': 3}, 7], {}]]
    states = sorted(line['state'] for line in cli('wait', '--group', group).end(status=1))
    assert states == ['dead', 'finished', 'finished']


def test_rq_sees_the_group(enqueue, work, redis):
    group = enqueue(*[line('add', number) for number in range(3)]).text()
    assert [job.get_status() for job in Group.fetch(group, redis).get_jobs()] == [JobStatus.QUEUED] * 3
    assert [group.name for group in Group.all(redis)] == [group]
    work.burst()
    assert {job.return_value() for job in Group.fetch(group, redis).get_jobs()} == {0, 1, 2}


def test_a_group_of_rqs_can_be_waited_for(work, redis, queue, cli):
    group = Group.create(redis, 'reports')
    members = group.enqueue_many(queue, [Queue.prepare_data('jobs.hold', result_ttl=90) for _ in range(3)])
    waiting = cli('wait', '--group', 'reports')
    until_blocked(redis)
    work.start(workers=2)
    redis.rpush('gate', *'abc')
    assert {line['id'] for line in waiting.end()} == {job.id for job in members}


def test_enqueue_waits_for_its_group(enqueue, work, redis):
    enqueued = enqueue(*[line('add', number) for number in range(3)], options=['--wait', '--on-done', 'jobs.report'])
    until_blocked(redis)
    work.burst()
    assert {line['state'] for line in enqueued.end()} == {'finished'}
    assert len(reports(redis)) == 1


def test_a_group_is_added_as_a_whole_or_not_at_all(enqueue, redis, queue):
    queue.enqueue(jobs.add, 1, job_id='taken')
    refused = enqueue(line('add', 1, id='free'), line('add', 1, id='taken'))
    assert refused.text(status=1) == '' and 'another job has this id' in refused.error
    assert queue.job_ids == ['taken'] and Group.all(redis) == [] and not Job.exists('free', redis)


def test_an_empty_group_has_ended(enqueue, work, redis):
    enqueue(options=['--on-done', 'jobs.report']).text()
    work.burst()
    [[_, given]] = reports(redis)
    assert given['total'] == 0


def test_what_rq_has_no_way_to_do_is_refused(enqueue, cli, redis):
    for callback in ['--on-done', '--on-failure']:
        refused = enqueue(*[line('add', 1)] * 1001, options=[callback, 'jobs.report'])
        assert refused.text(status=1) == '' and '1000 is the limit' in refused.error
    refused = cli('enqueue', 'jobs.add', '[1]', '--then', 'jobs.add')
    assert refused.text(status=1) == '' and 'depends_on' in refused.error
    assert redis.keys('*') == []


def test_an_unknown_group_is_told(cli):
    unknown = cli('wait', '--group', 'nobody')
    assert unknown.text(status=1) == '' and 'there is no group nobody' in unknown.error
