"""Options of `rq worker` whose effect shows in Redis or at the end of the worker."""

import signal
import time
from datetime import datetime

import pytest
from rq import Queue, Retry
from rq.job import Dependency, Job, JobStatus

import jobs
from support.near import near
from support.wait import until
from support.worker import registered


def counters(work, redis, **options):
    """Runs a burst under a name and returns what its worker's record tells afterwards."""
    work.burst(name='web', **options)
    record = redis.hgetall('rq:worker:web')
    return {field: int(record.get(field, 0)) for field in (b'successful_job_count', b'failed_job_count')}


# --- burst


@pytest.mark.parametrize('workers', [1, 2])
def test_a_burst_without_jobs_leaves_no_worker_behind(work, redis, workers):
    work.launch(burst=True, workers=workers).wait()
    assert registered(redis) == set()
    assert redis.keys('rq:queue*') == [] and redis.keys('rq:execution*') == []


def test_a_burst_of_one_job_is_counted(work, queue, redis):
    queue.enqueue(jobs.nothing)
    assert counters(work, redis) == {b'successful_job_count': 1, b'failed_job_count': 0}
    assert registered(redis) == set()
    assert redis.hexists('rq:worker:web', 'death') and redis.ttl('rq:worker:web') == near(60)


def test_a_burst_counts_each_run_of_a_job(work, queue, redis):
    queue.enqueue(jobs.fail, retry=Retry(2))
    queue.enqueue(jobs.nothing)
    assert counters(work, redis) == {b'successful_job_count': 1, b'failed_job_count': 3}


def test_a_burst_runs_what_its_last_job_brings_about(work, queue):
    first = queue.enqueue(jobs.nothing)
    second = queue.enqueue(jobs.nothing, depends_on=first)
    third = queue.enqueue(jobs.fail, depends_on=second)
    last = queue.enqueue(jobs.nothing, depends_on=Dependency([third], allow_failure=True))
    work.burst()
    assert [job.get_status() for job in (first, second, third, last)] == ['finished', 'finished', 'failed', 'finished']


def test_a_burst_runs_what_its_last_job_enqueues(work, queue, redis):
    queue.enqueue('jobs.enqueue', 'jobs.enqueue', 'jobs.note', 'at last')
    work.burst()
    assert redis.lrange('notes', 0, -1) == [b'at last']


def test_a_burst_does_not_wait_for_what_is_due_later(work, queue):
    job = queue.enqueue(jobs.fail, retry=Retry(1, interval=60))
    work.burst()
    assert job.get_status() == JobStatus.SCHEDULED
    assert queue.scheduled_job_registry.get_job_ids() == [job.id]


# --- when a worker ends


@pytest.mark.parametrize('burst', [{}, {'burst': True}])
def test_a_worker_of_so_many_jobs_takes_no_more(work, queue, burst):
    ids = [queue.enqueue(jobs.add, 1, 2).id for _ in range(6)]
    work.launch(max_jobs=4, **burst).wait()
    assert queue.job_ids == ids[4:]
    assert queue.started_job_registry.count == 0


def test_a_retry_counts_as_a_job(work, queue):
    queue.enqueue(jobs.fail, retry=Retry(5))
    work.launch(max_jobs=3).wait()
    assert queue.count == 1 and Job.fetch(queue.job_ids[0], connection=queue.connection).retries_left == 2


def test_the_idle_time_begins_with_the_end_of_the_last_job(work, queue, redis):
    queue.enqueue(jobs.hold)
    running = work.launch(max_idle_time=2)
    redis.blpop('entered', timeout=30)
    time.sleep(3)
    assert running.processes[0].poll() is None
    redis.rpush('gate', 'go')
    running.wait()
    assert registered(redis) == set()


def test_housekeeping_is_no_job(work, redis):
    work.launch(max_idle_time=2, maintenance_interval=1).wait()


# --- times


def test_a_worker_that_is_silent_is_forgotten_in_its_time(work, redis):
    work.start(name='web', worker_ttl=90)
    assert redis.ttl('rq:worker:web') == near(150)


def test_the_monitoring_interval_is_that_of_the_heartbeats(work, queue, redis):
    job = queue.enqueue(jobs.hold, job_timeout=3600)
    work.start(job_monitoring_interval=1)
    redis.blpop('entered', timeout=30)
    ((member, expiry),) = redis.zrange(queue.started_job_registry.key, 0, -1, withscores=True)
    assert expiry - time.time() == near(61)
    until(lambda: redis.zscore(queue.started_job_registry.key, member) > expiry, 'the next heartbeat')
    redis.rpush('gate', 'go')
    until(lambda: job.get_status() == JobStatus.FINISHED, 'the end of the job')


def test_results_may_be_kept_until_somebody_deletes_them(work, queue, redis):
    job = queue.enqueue(jobs.add, 1, 2)
    work.burst(results_ttl=-1)
    assert redis.ttl(job.key) == -1
    assert redis.zscore(queue.finished_job_registry.key, job.id) == float('inf')


# --- code


def test_the_module_path_is_longer_by_each_path(work, queue, tmp_path):
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / f'beside{number}.py').write_text(f'def tell(): return {number}\n')
    told = [queue.enqueue(f'beside{number}.tell') for number in range(2)]
    work.burst(path=[str(tmp_path / '0'), str(tmp_path / '1')])
    assert [job.return_value() for job in told] == [0, 1]


@pytest.mark.parametrize('serializer', ['json', 'custom.MarkedSerializer'])
def test_the_serializer_is_that_of_the_producer(work, redis, serializer):
    job = Queue(connection=redis, serializer=serializer).enqueue('jobs.add', 1, 2)
    work.burst(serializer=serializer)
    assert Job.fetch(job.id, connection=redis, serializer=serializer).return_value() == 3


def test_the_job_class_performs(work, queue, redis):
    job = queue.enqueue(jobs.nothing)
    work.burst(job_class='custom.CountedJob')
    assert redis.lrange('notes', 0, -1) == [f'perform {job.id}'.encode()]


def test_the_worker_class_may_bring_handlers(work, queue, redis):
    queue.enqueue(jobs.fail)
    work.burst(worker_class='custom.HandlingWorker')
    assert redis.llen('notes') == 1


def test_exception_handlers_may_stand_alone(work, queue, redis):
    job = queue.enqueue(jobs.fail)
    work.burst(exception_handler='jobs.handle', disable_default_exception_handler=True)
    assert redis.llen('notes') == 1
    assert queue.failed_job_registry.get_job_ids() == [] and job.latest_result() is None


def test_a_scheduler_comes_with_the_worker(work, queue):
    job = queue.enqueue_at(datetime.fromtimestamp(time.time() - 5), jobs.add, 1, 2)
    work.start(with_scheduler=True)
    until(lambda: job.get_status() == JobStatus.FINISHED, 'the scheduled job runs')


# --- the process


def test_the_process_id_is_written_to_a_file(work, tmp_path):
    file = tmp_path / 'worker.pid'
    running = work.start(pid=str(file))
    assert int(file.read_text()) == running.processes[0].pid
    running.signal(signal.SIGTERM)
    running.wait()


def test_the_log_says_more_or_less(work, queue):
    said = {}
    for how in 'verbose', 'quiet':
        queue.enqueue(jobs.nothing)
        said[how] = work.burst(**{how: True})
    assert len(said['quiet']) < len(said['verbose'])


def test_settings_of_a_module_set_up_logging(work, queue, tmp_path):
    log = tmp_path / 'app.log'
    config = {
        'version': 1,
        'disable_existing_loggers': False,
        'handlers': {'file': {'class': 'logging.FileHandler', 'filename': str(log)}},
        'root': {'handlers': ['file'], 'level': 'INFO'},
    }
    module = f'import os\nREDIS_URL = os.environ["SUITE_REDIS_URL"]\nDICT_CONFIG = {config!r}\n'
    (tmp_path / 'with_logging.py').write_text(module)
    queue.enqueue(jobs.log, 'a line of the application')
    work.burst(rq_config='with_logging', path=str(tmp_path))
    assert 'a line of the application' in log.read_text()


def test_a_reload_reads_the_settings_module_again(work, redis, target, tmp_path):
    if target.name != 'pool':
        pytest.skip('a worker of RQ has no reload')
    module = tmp_path / 'read_again.py'
    module.write_text("QUEUES = ['first']\n")
    running = work.launch(rq_config='read_again', path=str(tmp_path))
    until(lambda: redis.smembers('rq:workers:first'), 'it serves the first queue')
    module.write_text("QUEUES = ['first', 'second']\n")
    running.signal(signal.SIGHUP)
    job = Queue('second', connection=redis).enqueue(jobs.add, 1, 2)
    until(lambda: job.get_status() == JobStatus.FINISHED, 'it serves the second queue')


def test_a_function_that_old_code_lacks_waits_for_the_reload(work, redis, queue, target, tmp_path):
    if target.name != 'pool':
        pytest.skip('a worker of RQ has no reload')
    module = tmp_path / 'deployed.py'
    module.write_text('def version():\n    return 1\n')
    running = work.start(workers=2, preload='deployed', path=str(tmp_path))
    new = 'def version():\n    return 2\n\n\ndef new():\n    return version()\n'
    module.write_text(f'import time\n\ntime.sleep(2)\n\n\n{new}')
    running.signal(signal.SIGHUP)
    until(lambda: 'reloading' in running.output(), 'it begins to reload')
    found = [queue.enqueue('deployed.new') for _ in range(6)]
    for job in found:
        until(lambda job=job: job.get_status() in (JobStatus.FINISHED, JobStatus.FAILED), 'it ends')
        assert job.get_status() == JobStatus.FINISHED, running.output()
        assert job.return_value() == 2
