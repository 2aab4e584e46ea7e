"""How RQ's tools see workers, and how workers come and go."""

import os
import signal
import socket
import subprocess
from datetime import timedelta

import pytest
import rq
from rq import Queue, Worker
from rq.command import send_shutdown_command
from rq.utils import now

import jobs
from support.app import entered
from support.near import near
from support.server import RedisServer
from support.wait import until
from support.worker import APP, BIN, Work, registered


def worker(redis, name):
    return Worker.find_by_key(f'rq:worker:{name}', connection=redis)


def state(redis, name):
    return redis.hget(f'rq:worker:{name}', 'state')


def reaches(redis, name, wanted):
    until(lambda: state(redis, name) == wanted.encode(), f'worker {name} is {wanted}')


def cli(server, *arguments):
    """A run of the `rq` command."""
    command = [str(BIN / 'rq'), arguments[0], '--url', server.url, *arguments[1:]]
    env = {**os.environ, 'PYTHONPATH': str(APP)}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True).stdout


def test_a_worker_is_registered(work, redis):
    running = work.start('high', 'low', name='web')
    reaches(redis, 'web', 'idle')
    seen = worker(redis, 'web')
    assert registered(redis) == {'web'}
    assert seen.queue_names() == ['high', 'low']
    assert seen.hostname == socket.gethostname()
    assert os.path.exists(f'/proc/{seen.pid}')
    assert seen.ip_address.startswith('127.0.0.1:')
    assert seen.version == rq.VERSION and seen.python_version
    assert seen.birth_date <= seen.last_heartbeat
    assert redis.ttl('rq:worker:web') == near(480)
    for queue in ('high', 'low'):
        assert Worker.count(queue=Queue(queue, connection=redis)) == 1
    running.stop()


def test_the_time_to_live_of_a_worker_is_a_setting(work, redis):
    running = work.start(name='web', worker_ttl=2000)
    assert redis.ttl('rq:worker:web') == near(2060)
    running.stop()


def test_an_idle_worker_sends_heartbeats(work, redis):
    running = work.start(name='web', worker_ttl=16)
    first = worker(redis, 'web').last_heartbeat
    until(lambda: worker(redis, 'web').last_heartbeat > first, 'a heartbeat')
    assert redis.ttl('rq:worker:web') == near(76)
    running.stop()


def test_workers_without_a_name_have_different_ones(work, redis):
    running = work.start(workers=2)
    assert len(registered(redis)) == Worker.count(connection=redis) == 2
    running.stop()
    assert Worker.count(connection=redis) == 0


@pytest.mark.pool
def test_several_workers_of_one_name_have_numbers(work, redis):
    running = work.start(workers=2, name='web')
    assert registered(redis) == {'web.1', 'web.2'}
    running.stop()


def test_a_busy_worker_is_shut_down_after_its_job(work, redis, queue):
    job = queue.enqueue(jobs.hold)
    work.start(workers=2)
    entered(redis)
    [one] = [seen.name for seen in Worker.all(connection=redis) if seen.get_state() == 'busy']
    process = worker(redis, one).pid
    send_shutdown_command(redis, one)
    until(lambda: worker(redis, one).shutdown_requested_date, 'the worker says that it stops')
    redis.rpush('gate', 'open')
    assert job.latest_result(timeout=30).return_value == 'released'
    until(lambda: process not in [seen.pid for seen in Worker.all(connection=redis)], f'{one} leaves')


def test_a_worker_leaves_cleanly(work, redis):
    running = work.start('high', 'low', name='web')
    running.stop()
    assert registered(redis) == set()
    assert redis.smembers('rq:workers:high') == redis.smembers('rq:workers:low') == set()
    assert worker(redis, 'web').death_date is not None
    assert redis.ttl('rq:worker:web') == near(60)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_stopping_worker_finishes_its_job(work, redis, queue, number):
    job, later = queue.enqueue(jobs.hold), queue.enqueue(jobs.add, 1, 2)
    running = work.start(name='web')
    entered(redis)
    running.signal(number)
    until(lambda: worker(redis, 'web').shutdown_requested_date, 'the worker says that it stops')
    redis.rpush('gate', 'open')
    running.wait()
    assert job.return_value() == 'released'
    assert later.is_queued


def test_a_second_signal_stops_at_once(work, redis, queue):
    """What becomes of the job is each worker's own rule; that it isn't running any more is not."""
    queue.enqueue(jobs.hold)
    running = work.start(name='web')
    pid = entered(redis)
    running.signal()
    since = until(lambda: worker(redis, 'web').shutdown_requested_date, 'the worker says that it stops')
    # Within a second RQ takes a signal for an echo of the first; and one more while it goes would leave it registered.
    until(lambda: now() - since > timedelta(seconds=1.5), 'a signal is no echo any more')
    running.signal()
    running.wait(status=None)
    assert not os.path.exists(f'/proc/{pid}')
    assert registered(redis) == set()


def test_a_name_is_used_once(work, redis):
    running = work.start(name='web')
    second = work.launch(name='web', burst=True)
    second.wait(status=None)
    assert second.processes[0].returncode != 0
    assert "There exists an active worker named 'web' already" in second.output()
    running.stop()


def test_a_name_is_free_after_its_worker_left(work, redis):
    work.burst(name='web')
    work.burst(name='web')


@pytest.mark.rq3
def test_a_busy_worker_says_what_it_runs(work, redis, queue):
    job = queue.enqueue(jobs.hold)
    running = work.start(name='web')
    entered(redis)
    seen = worker(redis, 'web')
    assert seen.get_state() == 'busy'
    assert seen.get_current_job_id() == job.id
    assert seen.current_execution_count == 1
    assert [execution.job_id for execution in seen.get_current_executions()] == [job.id]
    redis.rpush('gate', 'open')
    reaches(redis, 'web', 'idle')
    assert worker(redis, 'web').current_execution_count == 0
    running.stop()


def test_a_worker_counts_its_jobs(work, redis, queue):
    for _ in range(3):
        queue.enqueue(jobs.add, 1, 2)
    queue.enqueue(jobs.fail)
    queue.enqueue(jobs.die)
    held = queue.enqueue(jobs.hold)
    redis.rpush('gate', 'open')
    work.burst(name='web')
    seen = worker(redis, 'web')
    assert (seen.successful_job_count, seen.failed_job_count) == (4, 2)
    held.refresh()
    assert seen.total_working_time >= (held.ended_at - held.started_at).total_seconds()


def test_rq_info_shows_workers_and_queues(work, server, redis, queue):
    queue.enqueue(jobs.add, 1, 2)
    queue.enqueue(jobs.fail)
    running = work.start(name='web')
    until(lambda: queue.failed_job_registry.count == 1 and state(redis, 'web') == b'idle', 'both have run')
    shown = cli(server, 'info', '--raw')
    assert 'queue default 0, 0 executing, 1 finished, 1 failed' in shown
    assert 'worker web (' in shown and 'idle default. jobs: 1 finished, 1 failed' in shown
    running.stop()
    assert 'worker' not in cli(server, 'info', '--raw')


def test_rq_info_shows_a_running_job(work, server, redis, queue):
    queue.enqueue(jobs.hold)
    running = work.start(name='web')
    entered(redis)
    shown = cli(server, 'info', '--raw', '--by-queue')
    assert 'queue default 0, 1 executing' in shown and 'default: web (' in shown and 'busy' in shown
    redis.rpush('gate', 'open')
    running.stop()


def test_one_worker_of_several_is_shut_down(work, redis, queue):
    """Its process ends. (A pool keeps its size: another one takes the name over.)"""
    work.start(workers=2)
    one = sorted(registered(redis))[0]
    process = worker(redis, one).pid
    send_shutdown_command(redis, one)
    until(lambda: process not in [seen.pid for seen in Worker.all(connection=redis)], f'{one} leaves')
    assert queue.enqueue(jobs.add, 1, 2).latest_result(timeout=30).return_value == 3


def test_a_burst_worker_ends_when_its_queues_are_empty(work, queue, redis):
    done = [queue.enqueue(jobs.add, 1, 2) for _ in range(5)]
    work.burst()
    assert all(job.is_finished for job in done) and registered(redis) == set()


def test_a_worker_ends_after_its_number_of_jobs(work, queue):
    done = [queue.enqueue(jobs.add, 1, 2) for _ in range(3)]
    work.start(max_jobs=2).wait()
    assert [job.is_finished for job in done] == [True, True, False]


def test_a_worker_ends_when_it_was_idle_for_long(work, queue):
    job = queue.enqueue(jobs.add, 1, 2)
    work.launch(max_idle_time=1).wait()
    assert job.is_finished


def test_a_log_keeps_arguments_to_itself_when_told(work, queue):
    queue.enqueue(jobs.note, 'hush-hush')
    assert 'hush-hush' not in work.burst(disable_job_desc_logging=True)


def test_settings_come_from_a_module(work, redis):
    job = Queue('from-settings', connection=redis).enqueue(jobs.add, 1, 2)
    work.burst(rq_config='settings')
    assert job.latest_result().worker_name == 'named-by-settings'


@pytest.mark.rq3
def test_keys_may_have_another_prefix(work, server, redis):
    env = {**os.environ, 'PYTHONPATH': str(APP), 'RQ_KEY_PREFIX': 'acme'}
    command = [str(BIN / 'rq'), 'enqueue', '--url', server.url, '--job-id', 'one', 'jobs.add', ':1', ':2']
    subprocess.run(command, env=env, check=True, timeout=60)
    work.burst(name='web', env={'RQ_KEY_PREFIX': 'acme'})
    assert redis.hget('acme:job:one', 'status') == b'finished'
    assert redis.zscore('acme:finished:default', 'one') and redis.exists('acme:worker:web')
    assert redis.keys('rq*') == []


def test_a_unix_socket_will_do(work, server, redis, queue):
    job = queue.enqueue(jobs.add, 1, 2)
    work.burst(url=f'unix://{server.socket_path}')
    assert job.return_value() == 3


@pytest.fixture
def guarded(target):
    """Workers on a server that wants a user and a password."""
    rules = '--user default off --user ann on >secret ~* &* +@all'.split()
    server = RedisServer(*rules, login='ann:secret')
    work = Work(target, server)
    yield work
    work.close()
    server.stop()


def test_a_user_of_the_server_logs_in(guarded):
    with guarded.server.client() as client:
        job = Queue(connection=client).enqueue(jobs.add, 1, 2)
        output = guarded.burst()
        assert job.return_value() == 3 and 'secret' not in output


def test_a_wrong_password_ends_the_worker(guarded):
    running = guarded.launch(burst=True, url=guarded.server.url.replace('secret', 'guess'))
    running.wait(status=None)
    assert running.processes[0].returncode != 0
