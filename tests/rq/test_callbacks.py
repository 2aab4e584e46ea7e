"""Callbacks and webhooks: who is told about the end of a job."""

import json

import pytest
from rq import Callback, Queue
from rq.command import send_stop_job_command
from rq.job import Retry
from rq.results import Result
from rq.webhook import Webhook

import jobs
from support.app import entered, notes
from support.wait import until


def test_success_is_told_with_the_result(work, queue, redis):
    job = queue.enqueue(jobs.add, 1, 2, on_success=Callback(jobs.succeeded), on_failure=Callback(jobs.failed))
    work.burst()
    assert notes(redis) == [f'success {job.id} 3 finished']


def test_callbacks_may_be_given_by_name(work, queue, redis):
    job = queue.enqueue(jobs.add, 1, 2, on_success=Callback('jobs.succeeded'))
    work.burst()
    assert notes(redis) == [f'success {job.id} 3 finished']


def test_failure_is_told_with_the_exception(work, queue, redis):
    job = queue.enqueue(jobs.fail, 'no luck', on_success=Callback(jobs.succeeded), on_failure=Callback(jobs.failed))
    work.burst()
    assert notes(redis) == [f'failure {job.id} ValueError no luck True']


def test_failure_is_told_before_each_retry(work, queue, redis):
    queue.enqueue(jobs.fail, retry=Retry(max=1), on_failure=Callback(jobs.failed))
    work.burst()
    assert len(notes(redis)) == 2


def test_a_timeout_is_told_as_failure(work, queue, redis):
    job = queue.enqueue(jobs.overrun, job_timeout=1, on_failure=Callback(jobs.failed))
    work.burst()
    assert notes(redis) == [
        f'failure {job.id} JobTimeoutException Task exceeded maximum timeout value (1 seconds) True'
    ]


def test_the_death_of_a_job_is_not_told(work, queue, redis):
    job = queue.enqueue(jobs.die, on_failure=Callback(jobs.failed))
    work.burst()
    assert job.is_failed and notes(redis) == []


def test_a_success_callback_that_raises_fails_its_job(work, queue, redis):
    broken = Callback(jobs.raise_in_callback)
    job = queue.enqueue(jobs.add, 1, 2, on_success=broken, on_failure=Callback(jobs.failed))
    work.burst()
    assert job.is_failed
    assert job.latest_result().exc_string.endswith('RuntimeError: callback broke\n')
    assert notes(redis) == [f'raising {job.id}', f'failure {job.id} RuntimeError callback broke True']


def test_a_failure_callback_that_raises_replaces_the_exception(work, queue):
    job = queue.enqueue(jobs.fail, on_failure=Callback(jobs.raise_in_callback))
    work.burst()
    assert job.is_failed and job.latest_result().type == Result.Type.FAILED
    assert job.latest_result().exc_string.endswith('RuntimeError: callback broke\n')


@pytest.mark.parametrize('function, hook', [(jobs.nothing, 'on_success'), (jobs.fail, 'on_failure')])
def test_a_callback_has_a_timeout_of_its_own(work, queue, function, hook):
    job = queue.enqueue(function, **{hook: Callback(jobs.overrun_in_callback, timeout=1)})
    work.burst()
    assert job.is_failed
    assert 'JobTimeoutException: Task exceeded maximum timeout value (1 seconds)' in job.latest_result().exc_string


def test_a_callback_that_does_not_exist_fails_its_job(work, queue):
    job = queue.enqueue(jobs.add, 1, 2, on_success=Callback('jobs.absent'))
    work.burst()
    assert job.is_failed and 'absent' in job.latest_result().exc_string


def test_callbacks_see_meta_and_keep_the_connection_of_the_job(work, redis):
    queue = Queue('other', connection=redis)
    job = queue.enqueue(jobs.save_meta, progress=1, on_success=Callback(jobs.succeeded))
    work.burst('other')
    assert notes(redis) == [f"success {job.id} {{'progress': 1}} finished"]


def hooks(endpoint):
    return [
        Webhook(f'{endpoint.url}/finished', 'finished', headers={'X-Token': 'secret'}),
        Webhook(f'{endpoint.url}/failed', 'failed', method='POST'),
    ]


def test_a_webhook_is_called_on_success(work, queue, endpoint):
    queue.enqueue(jobs.add, 1, 2, webhooks=hooks(endpoint))
    work.burst()
    assert endpoint.requests == [('GET', '/finished', 'secret', b'')]


def test_a_webhook_is_called_on_failure(work, queue, endpoint):
    job = queue.enqueue(jobs.fail, webhooks=hooks(endpoint))
    work.burst()
    [(method, path, _, body)] = endpoint.requests
    assert (method, path) == ('POST', '/failed')
    told = json.loads(body)
    assert (told['job_id'], told['func_name'], told['status']) == (job.id, 'jobs.fail', 'failed')
    assert told['exc_info'].endswith('ValueError: no luck\n')
    assert told['enqueued_at'] < told['ended_at']


def test_no_webhook_is_called_for_a_failure_that_is_retried(work, queue, endpoint):
    queue.enqueue(jobs.fail, webhooks=hooks(endpoint), retry=Retry(max=1))
    work.burst()
    assert [path for _, path, _, _ in endpoint.requests] == ['/failed']


def test_a_webhook_is_called_for_a_job_that_died(work, queue, endpoint):
    queue.enqueue(jobs.die, webhooks=hooks(endpoint))
    work.burst()
    assert [path for _, path, _, _ in endpoint.requests] == ['/failed']


def test_no_webhook_is_called_for_a_job_that_is_stopped(work, queue, redis, endpoint):
    job = queue.enqueue(jobs.hold, webhooks=hooks(endpoint))
    work.start()
    entered(redis)
    send_stop_job_command(redis, job.id)
    assert queue.enqueue(jobs.add, 1, 2, webhooks=hooks(endpoint)).latest_result(timeout=30).return_value == 3
    until(lambda: endpoint.requests, 'the webhook of the next job is called')
    assert job.get_status() == 'stopped' and [path for _, path, _, _ in endpoint.requests] == ['/finished']


def test_an_endpoint_that_is_away_changes_nothing(work, queue):
    job = queue.enqueue(jobs.add, 1, 2, webhooks=[Webhook('http://127.0.0.1:1/', 'finished')])
    work.burst()
    assert job.return_value() == 3


@pytest.mark.pool
def test_a_stopped_callback_that_leaves_is_tried_a_few_times_and_holds_nobody_up(work, queue, redis):
    job = queue.enqueue(jobs.hold, on_stopped=Callback(jobs.leave_when_stopped))
    running = work.start()
    entered(redis)
    send_stop_job_command(redis, job.id)
    later = queue.enqueue(jobs.add, 1, 2)
    until(lambda: later.is_finished, 'another job runs meanwhile')
    until(lambda: job.get_status() in ('failed', 'stopped'), 'the job has ended')
    assert 1 <= int(redis.get('calls')) <= 4
    assert redis.zcard('rq:wip:default') == 0 and redis.zscore('rq:failed:default', job.id)
    running.stop()
    assert int(redis.get('calls')) <= 4
