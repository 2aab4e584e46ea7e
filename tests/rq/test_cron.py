"""Cron jobs of RQ's own files: stock processes fire each for itself, supervisors fire each due time once."""

import json
import os
import subprocess
import sys

import pytest
from rq.cron import CronScheduler
from rq.job import Job

import jobs
from support.wait import until
from support.worker import APP, BIN, ROOT

pytestmark = [pytest.mark.pool, pytest.mark.rq3]

POOL = os.environ.get('POOL_BIN', str(ROOT / 'target' / 'debug' / 'pool'))
#: What `rq cron` and `--rq-cron` are given.
MODULE = 'cron_jobs'


def due_seconds(redis, queue='cron'):
    """The seconds at which the jobs of a queue were enqueued."""
    ids = [job_id.decode() for job_id in redis.lrange(f'rq:queue:{queue}', 0, -1)]
    return [int(job.enqueued_at.timestamp()) for job in Job.fetch_many(ids, connection=redis)]


def twice(redis):
    """Seconds at which more than one job was enqueued."""
    seconds = due_seconds(redis)
    return {second for second in seconds if seconds.count(second) > 1}


def test_two_processes_of_rq_fire_twice(server, redis):
    env = {**os.environ, 'PYTHONPATH': str(APP)}
    command = [str(BIN / 'rq'), 'cron', '--url', server.url, MODULE]
    processes = [subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) for _ in range(2)]
    try:
        # At a second of the wall clock both have fired.
        until(lambda: len(twice(redis)) >= 2, 'due times that both fire')
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def test_supervisors_fire_once(work, redis):
    supervisors = [work.launch('served', rq_cron=MODULE) for _ in range(3)]
    until(lambda: len(due_seconds(redis)) >= 3, 'jobs')
    supervisors[0].kill()
    so_far = len(due_seconds(redis))
    until(lambda: len(due_seconds(redis)) >= so_far + 3, 'jobs of those that are left')
    for running in supervisors[1:]:
        running.stop()
    logs = ''.join(running.output() for running in supervisors)
    dues = [
        word.removeprefix('due=')
        for line in logs.splitlines()
        if 'schedule fired' in line and 'rq-cron:every_second' in line
        for word in line.split()
        if word.startswith('due=')
    ]
    assert len(dues) == len(set(dues)), dues
    # The one that was killed may have fired one without saying so.
    assert len(due_seconds(redis)) - len(dues) in (0, 1)


def test_a_job_and_its_history_are_those_of_rq(work, redis):
    running = work.launch('cron', rq_cron=MODULE)
    until(lambda: redis.zcard('rq:cron_job:every_second:jobs') >= 2, 'the history')
    job_id = redis.zrange('rq:cron_job:every_second:jobs', 0, 0)[0].decode()
    until(lambda: Job.fetch(job_id, connection=redis).is_finished, 'the job has run')
    running.stop()
    job = Job.fetch(job_id, connection=redis)
    assert (job.func_name, job.args, job.kwargs) == ('jobs.add', (1,), {'b': 2})
    assert (job.origin, job.timeout, job.result_ttl, job.meta) == ('cron', 33, 44, {'made': 'by cron'})
    assert job.return_value() == 3
    assert job.description == "jobs.add(1, b=2)"
    assert redis.zscore('rq:cron_job:every_second:jobs', job_id) == pytest.approx(job.enqueued_at.timestamp(), abs=0.01)
    assert 0 < redis.ttl('rq:cron_job:every_second:jobs') <= 31536000
    assert b'every_second' in redis.zrange('rq:cron_jobs', 0, -1)


def test_lists_and_the_tools_of_rq_see_them(work, redis, server):
    running = work.launch('cron', rq_cron=MODULE)
    until(lambda: any(scheduler.get_jobs() for scheduler in CronScheduler.all(redis)), 'the record of the supervisor')
    (scheduler,) = CronScheduler.all(redis)
    assert scheduler.config_file == MODULE and scheduler.last_heartbeat is not None
    shown = {cron_job.name: cron_job for cron_job in scheduler.get_jobs()}
    assert (shown['every_second'].cron, shown['every_second'].queue_name) == ('* * * * * *', 'cron')
    assert (shown['jobs.add'].interval, shown['jobs.add'].args) == (3600, (1, 2))

    lines = said('schedules', 'list', '--json', server=server).splitlines()
    listed = {line['name']: line for line in map(json.loads, lines)}
    assert sorted(listed) == ['rq-cron:every_second', 'rq-cron:jobs.add']
    assert listed['rq-cron:jobs.add']['rule'] == 'every 1h' and listed['rq-cron:jobs.add']['next']
    running.stop()
    assert CronScheduler.all(redis) == []
    assert said('schedules', 'list', server=server) == 'no schedules\n'


def test_a_check_shows_when_they_are_due(server):
    checked = said('check', '--runtime', 'rq', '--rq-cron', MODULE, '--python', sys.executable, server=server)
    assert '# schedule rq-cron:every_second: * * * * * * ' in checked
    assert '# schedule rq-cron:jobs.add: every 1h: due ' in checked


def test_a_check_names_schedules_of_functions_that_are_not_there(server, tmp_path):
    settings = tmp_path / 'pool.toml'
    settings.write_text("".join(f"[schedules.{name}]\ntask = '{task}'\nevery = '5m'\n" for name, task in
                                [('here', 'jobs.add'), ('gone', 'jobs.gone'), ('far', 'no_such.add')]))
    with pytest.raises(subprocess.CalledProcessError) as failed:
        said('check', '--runtime', 'rq', '--config', str(settings), '--python', sys.executable, server=server)
    told = failed.value.stderr
    assert failed.value.returncode == 1 and 'here:' not in told, told
    assert '  gone: ValueError: ' in told and '  far: ValueError: ' in told, told


def said(*words, server):
    """What `pool` prints about this server."""
    command = [POOL, *words, '--broker', server.url]
    env = {**os.environ, 'PYTHONPATH': str(APP)}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True).stdout


def test_a_module_that_is_not_there_is_told(work, redis):
    running = work.launch('cron', rq_cron='no_such_module')
    said = running.wait(status=1)
    assert 'cannot use the cron jobs of `no_such_module`' in said
