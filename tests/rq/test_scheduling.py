"""Which job is next, and when: dequeue order, schedulers, suspension."""

import time
from datetime import datetime, timedelta, timezone

import pytest
from rq import Queue, Repeat, Retry
from rq.job import JobStatus
from rq.scheduler import RQScheduler
from rq.suspension import resume, suspend

import jobs
from support.app import entered, notes
from support.near import near
from support.versions import RateLimit
from support.wait import until
from support.worker import registered

PAST = datetime(2020, 1, 1, tzinfo=timezone.utc)


def fill(redis, names, each):
    for name in names:
        for number in range(each):
            Queue(name, connection=redis).enqueue(jobs.note, f'{name}{number}')


def test_queues_are_served_in_their_order(work, redis):
    fill(redis, 'abc', 2)
    work.burst('b', 'c', 'a')
    assert notes(redis) == ['b0', 'b1', 'c0', 'c1', 'a0', 'a1']


def test_queues_are_served_in_turn(work, redis):
    fill(redis, 'abc', 2)
    work.burst('a', 'b', 'c', dequeue_strategy='round_robin')
    assert notes(redis) == ['a0', 'b0', 'c0', 'a1', 'b1', 'c1']


def test_queues_take_turns_in_a_burst_of_many_jobs(work, redis):
    """Also when some are empty sooner, the tasks differ, and a job is gone."""
    counts = {'a': 40, 'b': 3, 'c': 25}
    expected = []
    for name, count in counts.items():
        for number in range(count):
            function = jobs.note_and_fail if number % 5 == 4 else jobs.note
            Queue(name, connection=redis).enqueue(function, f'{name}{number}', result_ttl=number % 2)
    redis.lset('rq:queue:c', 1, 'gone')
    waiting = {name: [f'{name}{number}' for number in range(count)] for name, count in counts.items()}
    waiting['c'].remove('c1')
    while any(waiting.values()):
        expected += [tags.pop(0) for tags in waiting.values() if tags]
    work.burst(*counts, dequeue_strategy='round_robin')
    assert notes(redis) == expected


def test_each_job_of_a_burst_is_drawn_anew(work, redis):
    """No queue is served in a row for long, and none waits for the other's end."""
    for name in ('a', 'b'):
        queue = Queue(name, connection=redis)
        queue.enqueue_many([Queue.prepare_data(jobs.note, (name,)) for _ in range(40)])
    work.burst('a', 'b', dequeue_strategy='random')
    order = ''.join(notes(redis))
    assert len(order) == 80
    turns = sum(one != other for one, other in zip(order[:50], order[1:50]))
    assert 5 < turns < 45, order  # of 49; a draw that is farther off comes once in a hundred million


def test_queues_are_served_at_random(work, redis):
    fill(redis, 'ab', 12)
    work.burst('a', 'b', dequeue_strategy='random')
    served = notes(redis)
    assert sorted(served) == sorted(f'{name}{number}' for name in 'ab' for number in range(12))
    assert [note for note in served if note[0] == 'a'] == [f'a{number}' for number in range(12)]
    in_blocks = sorted(served, key=lambda note: note[0])
    assert served not in (in_blocks, in_blocks[::-1])


def test_the_first_job_of_a_random_order_is_of_the_first_queue_that_has_one(work, redis):
    """RQ shuffles its queues after each job. A worker that draws the first one, too, passes once in 40 times."""
    names = [f'q{number}-' for number in range(40)]
    fill(redis, names, 1)
    work.burst('empty', *names, dequeue_strategy='random')
    served, in_order = notes(redis), [f'{name}0' for name in names]
    assert served[0] == in_order[0]
    assert served != in_order and sorted(served) == sorted(in_order)


def test_an_unknown_strategy_is_refused(work):
    running = work.launch(dequeue_strategy='fifo', burst=True)
    running.wait(status=None)
    assert running.processes[0].returncode != 0


def test_a_queue_of_higher_rank_goes_first(work, redis):
    Queue('low', connection=redis).enqueue(jobs.hold)
    work.start('high', 'low')
    entered(redis)
    Queue('low', connection=redis).enqueue(jobs.note, 'low')
    last = Queue('high', connection=redis).enqueue(jobs.note, 'high')
    redis.rpush('gate', 'open')
    last.latest_result(timeout=30)
    until(lambda: redis.llen('notes') == 2, 'both ran')
    assert notes(redis) == ['high', 'low']


def test_jobs_wake_an_idle_worker(work, redis):
    work.start('a', 'b')
    for name in 'bab':
        assert Queue(name, connection=redis).enqueue(jobs.add, 1, 2).latest_result(timeout=30).return_value == 3


def test_several_workers_run_jobs_at_once(work, redis, queue):
    held = [queue.enqueue(jobs.hold) for _ in range(3)]
    work.start(workers=3)
    for _ in held:
        entered(redis)
    redis.rpush('gate', 'open', 'open', 'open')
    for job in held:
        assert job.latest_result(timeout=30).return_value == 'released'
    assert len({job.latest_result().worker_name for job in held}) == 3


def test_each_job_runs_once(work, redis, queue):
    fill(redis, ['default'], 60)
    running = work.start(workers=3)
    until(lambda: queue.finished_job_registry.get_job_count() == 60, 'all have run')
    assert sorted(notes(redis)) == sorted(f'default{number}' for number in range(60))
    running.stop()


def test_a_burst_runs_what_is_due(work, queue, redis):
    due = queue.enqueue_at(PAST, jobs.add, 1, 2)
    later = queue.enqueue_in(timedelta(hours=1), jobs.add, 1, 2)
    work.burst(with_scheduler=True)
    assert due.return_value() == 3 and later.get_status() == JobStatus.SCHEDULED
    assert queue.scheduled_job_registry.get_job_ids() == [later.id]
    assert redis.keys('rq:scheduler*') == []


def test_without_a_scheduler_nothing_is_moved(work, queue):
    job = queue.enqueue_at(PAST, jobs.add, 1, 2)
    work.burst()
    assert job.get_status() == JobStatus.SCHEDULED


@pytest.mark.pool
def test_jobs_that_nobody_moves_are_in_the_log(work, queue, redis):
    queue.enqueue_at(PAST, jobs.add, 1, 2)
    Queue('later', connection=redis).enqueue_in(timedelta(hours=1), jobs.add, 1, 2)
    locked = Queue('locked', connection=redis)
    locked.enqueue_at(PAST, jobs.add, 1, 2)
    redis.set('rq:scheduler-lock:locked', 'a scheduler of RQ')
    running = work.start('default', 'later', 'locked', worker_ttl=3)
    said = 'scheduled jobs are overdue, and no scheduler moves them into their queue'
    until(lambda: said in running.output(), 'the log says so')
    (line,) = (line for line in running.output().splitlines() if said in line)
    assert 'queue="default"' in line or 'queue=default' in line


def test_a_scheduled_job_runs_when_it_is_due(work, queue):
    running = work.start(with_scheduler=True)
    job = queue.enqueue_in(timedelta(seconds=1), jobs.add, 1, 2)
    assert job.latest_result(timeout=30).return_value == 3
    assert job.ended_at is None
    job.refresh()
    assert job.enqueued_at > job.created_at
    running.stop()


def test_scheduled_jobs_may_go_to_the_front(work, queue, redis):
    queue.enqueue(jobs.note, 'waiting')
    queue.enqueue_at(PAST, jobs.note, 'urgent', at_front=True)
    work.burst(with_scheduler=True)
    assert notes(redis) == ['urgent', 'waiting']


def test_delayed_retries_and_repeats_run(work, queue, redis):
    retried = queue.enqueue(jobs.fail_until, 'run', 2, retry=Retry(max=1, interval=1))
    repeated = queue.enqueue(jobs.note, 'run', repeat=Repeat(times=1, interval=1))
    running = work.start(with_scheduler=True)
    until(lambda: retried.is_finished and redis.llen('notes') == 2, 'both ran again')
    until(lambda: repeated.is_finished, 'the repeat ended')
    running.stop()


@pytest.mark.rq3
def test_scheduled_jobs_with_a_rate_limit_wait_for_a_slot(work, queue, redis):
    for number in range(2):
        queue.enqueue_at(PAST, jobs.note, str(number), rate_limit=RateLimit('api', 1))
    work.burst(with_scheduler=True)
    assert sorted(notes(redis)) == ['0', '1']


def test_a_scheduled_id_whose_hash_is_gone_is_dropped(work, queue, redis):
    job = queue.enqueue_at(PAST, jobs.add, 1, 2)
    redis.delete(job.key)
    work.burst(with_scheduler=True)
    assert queue.scheduled_job_registry.get_job_ids() == [] and queue.job_ids == []


def test_one_scheduler_serves_a_queue(work, queue, redis):
    running = work.start('default', 'other', workers=2, with_scheduler=True)
    until(lambda: redis.exists(RQScheduler.get_locking_key('default')), 'a scheduler holds the lock')
    name = redis.get(RQScheduler.get_locking_key('default')).decode()
    until(lambda: redis.exists(f'rq:scheduler:{name}'), 'it is registered')
    assert redis.ttl(RQScheduler.get_locking_key('default')) == near(61)
    seen = RQScheduler.fetch(name, connection=redis)
    assert seen._queue_names == {'default', 'other'} and seen.pid and seen.hostname
    assert queue.scheduler_pid == seen.pid
    running.stop()
    assert redis.keys('rq:scheduler*') == []


def until_all_are_idle(redis):
    """RQ's worker, when it is stopped in the middle of a job, may start its scheduler again, which then leaves its lock."""
    until(lambda: {redis.hget(key, 'state') for key in redis.smembers('rq:workers')} == {b'idle'}, 'workers are idle')


def test_one_scheduler_of_two_supervisors_has_the_lock(work, queue, redis):
    """And when its process ends, the other one takes the lock over."""
    often = {'with_scheduler': True, 'maintenance_interval': 1, 'worker_ttl': 16}
    lock = RQScheduler.get_locking_key('default')
    # RQ 2 lists a scheduled job before it saves it: a scheduler that finds it due in between drops it.
    jobs_due = [queue.enqueue_at(PAST, jobs.note, str(number)) for number in range(20)]
    fleet = [work.start(**often), work.start(**often)]
    owner = until(lambda: redis.get(lock), 'a scheduler has the lock')
    for job in jobs_due:
        assert job.latest_result(timeout=30)
    assert sorted(notes(redis)) == sorted(str(number) for number in range(20))
    assert redis.get(lock) == owner and len(redis.keys('rq:scheduler:*')) == 1
    until_all_are_idle(redis)
    fleet[0].stop()
    until(lambda: redis.get(lock) not in (None, owner), 'the other one has the lock')
    soon = timedelta(seconds=2)
    assert queue.enqueue_in(soon, jobs.add, 1, 2).latest_result(timeout=30).return_value == 3
    until_all_are_idle(redis)
    fleet[1].stop()
    assert redis.keys('rq:scheduler*') == []


def test_a_lock_of_another_scheduler_is_respected(work, queue, redis):
    redis.set(RQScheduler.get_locking_key('default'), 'somebody', ex=60)
    job = queue.enqueue_at(PAST, jobs.add, 1, 2)
    work.burst(with_scheduler=True)
    assert job.get_status() == JobStatus.SCHEDULED
    assert redis.get(RQScheduler.get_locking_key('default')) == b'somebody'


def test_a_suspended_worker_takes_no_jobs(work, queue, redis):
    running = work.start(name='web')
    until(lambda: redis.hget('rq:worker:web', 'state') == b'idle', 'the worker is idle')
    suspend(redis)
    # RQ's worker notices after the job that it already waits for.
    queue.enqueue(jobs.add, 1, 2).latest_result(timeout=1)
    until(lambda: redis.hget('rq:worker:web', 'state') == b'suspended', 'the worker is suspended')
    job = queue.enqueue(jobs.add, 1, 2)
    assert job.latest_result(timeout=2) is None and job.is_queued
    resume(redis)
    assert job.latest_result(timeout=30).return_value == 3
    running.stop()


def test_a_suspension_ends_by_itself(work, queue, redis):
    running = work.start(name='web')
    suspend(redis, 3)
    queue.enqueue(jobs.add, 1, 2)
    assert queue.enqueue(jobs.add, 1, 2).latest_result(timeout=30).return_value == 3
    running.stop()


def test_a_running_job_is_finished_though_suspended(work, queue, redis):
    job = queue.enqueue(jobs.hold)
    running = work.start()
    entered(redis)
    suspend(redis)
    redis.rpush('gate', 'open')
    assert job.latest_result(timeout=30).return_value == 'released'
    running.stop()


def test_a_suspended_worker_can_be_stopped(work, redis, queue):
    running = work.start(name='web')
    suspend(redis)
    queue.enqueue(jobs.nothing)
    until(lambda: redis.hget('rq:worker:web', 'state') == b'suspended', 'the worker is suspended')
    running.stop()
    assert registered(redis) == set()


def test_no_worker_starts_while_suspended(work, queue, redis):
    suspend(redis)
    job = queue.enqueue(jobs.add, 1, 2)
    work.burst(status=1)
    assert job.is_queued
