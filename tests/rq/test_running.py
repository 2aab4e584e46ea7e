"""What Redis holds while a job runs, and the commands that reach a running job."""

import time

import pytest
from rq import Callback, Repeat, Retry, Worker
from rq.command import send_command, send_kill_horse_command, send_stop_job_command
from rq.executions import Execution
from rq.job import Dependency, JobStatus
from rq.results import Result

import jobs
from support.app import entered
from support.near import near
from support.versions import send_stop_execution_command
from support.wait import until


@pytest.fixture
def held(work, redis, queue):
    """A job that runs until the list `gate` has an element."""

    class Held:
        def start(self, function=jobs.hold, worker=None, **options):
            self.job = queue.enqueue(function, **options)
            self.running = work.start(**{'name': 'web', **(worker or {})})
            entered(redis)
            self.job.refresh()
            return self.job

        def release(self):
            redis.rpush('gate', 'open')
            return self.job.latest_result(timeout=30)

    return Held()


def execution_of(job):
    [execution] = job.get_executions()
    return execution


def test_a_running_job_is_in_the_started_registry(held, queue, redis):
    job = held.start()
    execution = execution_of(job)
    assert job.get_status() == JobStatus.STARTED and job.worker_name == 'web'
    assert job.started_at and job.last_heartbeat and not job.ended_at
    assert queue.started_job_registry.get_job_and_execution_ids() == [(job.id, execution.id)]
    assert redis.zscore('rq:wip:default', execution.composite_key) - time.time() == near(90)
    assert queue.job_ids == [] and queue.intermediate_queue.get_job_ids() == []
    held.release()
    until(lambda: queue.started_job_registry.get_job_ids() == [], 'the registry is empty')


@pytest.mark.rq3
def test_a_running_job_has_an_execution_record(held, redis):
    job = held.start()
    execution = execution_of(job)
    assert (execution.job_id, execution.worker_name) == (job.id, 'web')
    assert redis.ttl(execution.key) == near(90)
    assert redis.zscore(f'rq:executions:{job.id}', execution.id) - time.time() == near(150)
    assert redis.ttl(f'rq:executions:{job.id}') == near(150)
    assert redis.smembers('rq:worker:web:executions') == {execution.composite_key.encode()}
    assert held.release().execution_id == execution.id
    assert job.get_executions() == [] and redis.exists(execution.key) == 0


@pytest.mark.parametrize('timeout, seconds', [(10, 70), (600, 90), (-1, 90)])
def test_an_execution_lives_as_long_as_its_heartbeats_need(held, redis, timeout, seconds):
    job = held.start(job_timeout=timeout)
    assert redis.ttl(execution_of(job).key) == near(seconds)
    held.release()


def test_the_monitoring_interval_is_a_setting(held, redis):
    job = held.start(worker={'job_monitoring_interval': 100})
    assert redis.ttl(execution_of(job).key) == near(160)
    held.release()


def test_a_running_job_sends_heartbeats(held, queue, redis):
    job = held.start(worker={'job_monitoring_interval': 1})
    execution = execution_of(job)
    beat, score = job.last_heartbeat, redis.zscore('rq:wip:default', execution.composite_key)

    def has_beaten():
        job.refresh()
        execution.refresh()
        return job.last_heartbeat > beat and execution.last_heartbeat > execution.created_at

    until(has_beaten, 'job and execution have a heartbeat')
    assert redis.zscore('rq:wip:default', execution.composite_key) >= score
    assert redis.ttl('rq:worker:web') == near(61)
    held.release()


def test_the_heartbeat_of_a_deleted_job_does_not_bring_it_back(held, redis):
    job = held.start(worker={'job_monitoring_interval': 1})
    beat = redis.hget('rq:worker:web', 'last_heartbeat')
    redis.delete(job.key)
    until(lambda: redis.hget('rq:worker:web', 'last_heartbeat') != beat, 'a heartbeat')
    until(lambda: not redis.exists(job.key), 'the job is gone')
    redis.rpush('gate', 'open')


KINDS = {
    'plain': {},
    'callbacks': {'on_success': Callback(jobs.succeeded), 'on_failure': Callback(jobs.failed)},
    'repeat': {'repeat': Repeat(times=1)},
}


@pytest.mark.rq3
@pytest.mark.parametrize('options', KINDS.values(), ids=KINDS)
def test_a_heartbeat_does_not_bring_an_execution_back(held, redis, options):
    """Others may have ended it: a heartbeat renews (`ZADD XX`) and never adds."""
    job = held.start(worker={'job_monitoring_interval': 1}, **options)
    execution = execution_of(job)
    redis.zrem('rq:wip:default', execution.composite_key)
    redis.zrem(f'rq:executions:{job.id}', execution.id)
    beat = job.last_heartbeat

    def has_beaten():
        job.refresh()
        return job.last_heartbeat > beat

    until(has_beaten, 'a heartbeat')
    assert redis.exists('rq:wip:default', f'rq:executions:{job.id}') == 0
    redis.rpush('gate', *['open'] * 2)
    until(lambda: job.latest_result(), 'the job ends')


@pytest.mark.rq3
@pytest.mark.parametrize('options', KINDS.values(), ids=KINDS)
def test_each_kind_of_job_has_an_execution_while_it_runs(held, queue, redis, options):
    job = held.start(**options)
    execution = execution_of(job)
    assert (execution.job_id, execution.worker_name) == (job.id, 'web')
    assert redis.zscore('rq:wip:default', execution.composite_key) - time.time() == near(90)
    assert redis.zscore(f'rq:executions:{job.id}', execution.id) - time.time() == near(150)
    assert redis.smembers('rq:worker:web:executions') == {execution.composite_key.encode()}
    redis.rpush('gate', *['open'] * 2)
    first = until(lambda: job.results(), 'the job ends')[-1]
    assert first.execution_id == execution.id
    until(lambda: queue.started_job_registry.get_job_ids() == [], 'the registry is empty')
    assert not redis.exists(execution.key)


def test_a_worker_whose_record_expired_comes_back(held, redis):
    held.start(worker={'job_monitoring_interval': 1})
    redis.delete('rq:worker:web')
    until(lambda: redis.hget('rq:worker:web', 'queues') == b'default', 'the worker is back')
    assert redis.hget('rq:worker:web', 'pid') and redis.ttl('rq:worker:web') > 0
    held.release()


def test_a_running_job_is_stopped(held, queue, redis):
    job = held.start(retry=Retry(max=3), on_stopped=Callback(jobs.stopped), on_failure=Callback(jobs.failed))
    send_stop_job_command(redis, job.id)
    until(lambda: job.get_status() == JobStatus.STOPPED, 'the job is stopped')
    result = job.latest_result(timeout=30)
    assert result.type == Result.Type.FAILED
    assert result.exc_string == 'Job stopped by user, work-horse terminated.'
    assert job.id in queue.failed_job_registry and queue.started_job_registry.get_job_ids() == []
    assert redis.lrange('notes', 0, -1) == [f'stopped {job.id}'.encode()]
    assert queue.enqueue(jobs.add, 1, 2).latest_result(timeout=30).return_value == 3


@pytest.mark.rq3
def test_a_stopped_job_is_stopped_though_its_callback_raises(held, redis):
    job = held.start(on_stopped=Callback(jobs.raise_in_callback))
    send_stop_job_command(redis, job.id)
    assert job.latest_result(timeout=30).type == Result.Type.FAILED
    assert job.get_status() == JobStatus.STOPPED


@pytest.mark.rq3
def test_a_stopped_callback_has_a_timeout(held, redis):
    job = held.start(on_stopped=Callback(jobs.overrun_in_callback, timeout=1))
    send_stop_job_command(redis, job.id)
    assert job.latest_result(timeout=30).type == Result.Type.FAILED
    assert job.get_status() == JobStatus.STOPPED


def test_a_stopped_job_releases_no_dependents(held, queue, redis):
    job = held.start()
    child = queue.enqueue(jobs.add, 1, 2, depends_on=Dependency(jobs=job, allow_failure=True))
    send_stop_job_command(redis, job.id)
    job.latest_result(timeout=30)
    assert queue.enqueue(jobs.add, 1, 2).latest_result(timeout=30).return_value == 3
    assert child.get_status() == JobStatus.DEFERRED


@pytest.mark.rq3
def test_one_execution_is_stopped(held, redis):
    job = held.start()
    send_stop_execution_command(redis, job.id, execution_of(job).id)
    assert job.latest_result(timeout=30).exc_string == 'Job stopped by user, work-horse terminated.'
    assert job.get_status() == JobStatus.STOPPED


def test_a_command_for_another_job_changes_nothing(held, redis):
    held.start()
    send_command(redis, 'web', 'stop-job', job_id='another')
    send_command(redis, 'web', 'stop-execution', job_id='another', execution_id='0' * 32)
    send_command(redis, 'web', 'unknown-command')
    assert held.release().return_value == 'released'


def test_a_command_for_an_idle_worker_changes_nothing(work, queue, redis):
    running = work.start(name='web')
    before = len(running.output())
    send_command(redis, 'web', 'stop-job', job_id='another')
    send_kill_horse_command(redis, 'web')
    # The next job must not be there yet when the command is.
    until(lambda: 'kill' in running.output()[before:], 'the worker speaks of the command')
    assert queue.enqueue(jobs.add, 1, 2).latest_result(timeout=30).return_value == 3


def test_a_killed_horse_fails_its_job(held, queue, redis):
    job = held.start()
    send_kill_horse_command(redis, 'web')
    result = job.latest_result(timeout=30)
    assert job.is_failed and 'Work-horse terminated unexpectedly' in result.exc_string
    assert queue.enqueue(jobs.add, 1, 2).latest_result(timeout=30).return_value == 3
    assert Worker.find_by_key('rq:worker:web', connection=redis).failed_job_count == 1


def test_a_killed_horse_is_retried(held, redis):
    job = held.start(retry=Retry(max=1))
    send_kill_horse_command(redis, 'web')
    entered(redis)
    assert held.release().type == Result.Type.SUCCESSFUL
    job.refresh()
    assert job.retries_left == 0


def test_a_job_canceled_while_it_runs_ends_as_it_ends(held, queue):
    """RQ does not look again: the outcome is written over the cancellation."""
    job = held.start()
    job.cancel()
    assert held.release().return_value == 'released'
    assert job.get_status() == JobStatus.FINISHED and job.id in queue.finished_job_registry


def test_an_execution_is_found_by_its_id(held, redis):
    job = held.start()
    execution = execution_of(job)
    found = Execution.fetch(execution.id, job.id, connection=redis)
    assert found.job_id == job.id
    assert getattr(found, 'worker_name', 'web') == 'web'  # RQ 2.10 does not read it
    held.release()
