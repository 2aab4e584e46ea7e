"""`recover`: one of two supervisors is killed, and the other one takes over within the time that was said."""

import signal
import time

import pytest
from rq import Callback, Repeat, Retry, Worker

import jobs
from support.app import entered, notes
from support.versions import RateLimit
from support.wait import until

RECOVER = 3
#: A claim that expires by RQ's rules does so after a minute and more.
BY_RQ = 60

pytestmark = pytest.mark.pool


@pytest.fixture
def killed(work, queue, redis):
    """Two supervisors, of which the first is killed while its worker holds `job`, with others taken ahead."""

    def kill(job, **options):
        first = work.start(name='first', recover=RECOVER, prefetch=20, **options)
        entered(redis)
        until(lambda: redis.hget('rq:worker:first', 'state') == b'busy', 'it is noted that it has begun')
        ahead = [queue.enqueue(jobs.add, number, 1) for number in range(5)]
        until(lambda: all(other.get_status() == 'started' for other in ahead), 'jobs are taken ahead')
        work.start(name='second', recover=RECOVER, **options)
        first.kill()
        died = time.monotonic()
        # Else the server would give the next element of the list `gate` to a job that is dead.
        until(lambda: not waits_at_the_gate(redis), 'the job of the first one waits no more')
        return ahead, died

    return kill


def waits_at_the_gate(redis):
    mine = [client for client in redis.client_list() if client['cmd'] == 'blpop' and 'b' in client['flags']]
    return len(mine) > redis.exists('they_wait')


def test_what_had_not_begun_runs_elsewhere(queue, redis, killed):
    ahead, died = killed(queue.enqueue(jobs.hold))
    until(lambda: all(job.is_finished for job in ahead), 'the other one has run them')
    assert time.monotonic() - died < BY_RQ
    assert [job.return_value() for job in ahead] == [1, 2, 3, 4, 5]
    assert {job.latest_result().worker_name for job in ahead} == {'second'}


def test_what_had_begun_fails_by_the_rule_of_rq(queue, redis, killed):
    job = queue.enqueue(jobs.hold, on_failure=Callback(jobs.failed))
    _, died = killed(job)
    until(lambda: job.is_failed, 'it has failed')
    assert time.monotonic() - died < BY_RQ
    assert 'AbandonedJobError' in job.latest_result().exc_string and job.id in queue.failed_job_registry
    has_traceback = RateLimit is None  # in RQ 2
    assert notes(redis) == [f'failure {job.id} AbandonedJobError  {has_traceback}']
    until(lambda: not redis.exists('rq:wip:default'), 'nothing is left of it')


def test_its_retries_apply(queue, redis, killed):
    job = queue.enqueue(jobs.hold, retry=Retry(max=1))
    killed(job)
    entered(redis)
    redis.rpush('gate', 'open')
    until(lambda: job.is_finished, 'it has run again')
    job.refresh()
    assert job.return_value() == 'released' and job.retries_left == 0


@pytest.mark.parametrize('options', [{}, {'on_success': Callback(jobs.succeeded)}, {'repeat': Repeat(times=1)}], ids=['plain', 'callbacks', 'whole'])
def test_what_had_begun_may_run_again(queue, redis, killed, options):
    job = queue.enqueue(jobs.hold, **options)
    _, died = killed(job, recover_running='requeue')
    entered(redis)
    assert time.monotonic() - died < BY_RQ
    redis.rpush('gate', *['open'] * 2)
    until(lambda: job.is_finished, 'it has run again')
    assert job.return_value() == 'released' and not job.retries_left


def test_a_stock_worker_beside_them_is_not_disturbed(work, queue, redis, killed, server):
    from rq import Queue

    from support.worker import TARGETS, Work

    stock = Work(TARGETS['stock'], server)
    try:
        stock.launch('default', 'other', name='stock')
        theirs = Queue('other', connection=redis).enqueue(jobs.hold, 'their_gate', entered='they_entered')
        assert redis.blpop(['they_entered'], timeout=30)
        redis.set('they_wait', 1)
        ahead, _ = killed(queue.enqueue(jobs.hold))
        until(lambda: all(job.is_finished for job in ahead), 'the other one has run what was taken')
        assert theirs.is_started and 'stock' in {worker.name for worker in Worker.all(connection=redis)}
        redis.rpush('their_gate', 'open')
        until(lambda: theirs.is_finished, 'the job of the stock worker ends')
        assert theirs.latest_result().worker_name == 'stock'
    finally:
        stock.close()


def test_a_server_that_was_away_counts_against_nobody(work, queue, redis):
    """All leases have run out then, and one supervisor comes back later than the other."""
    options = {'recover': 12, 'recover_running': 'requeue'}
    holder = work.start(name='holder', **options)
    job = queue.enqueue(jobs.hold)
    entered(redis)
    [half] = redis.zrange('rq:pool_leases', 0, -1)
    work.start(name='other', **options)

    def others():
        return set(redis.zrange('rq:pool_leases', 0, -1)) - {half}

    def ends(supervisor):
        return redis.zscore('rq:pool_leases', supervisor)

    until(others, 'the other one has a lease')
    [other] = others()

    holder.signal(signal.SIGSTOP)
    redis.zadd('rq:pool_leases', dict.fromkeys([half, other], 1))  # as after a time in which nobody could renew
    for _ in range(2):
        before = ends(other)
        until(lambda: ends(other) > before, 'the other one renews its lease')
    assert ends(half) < ends(other) - 8000, 'the first one has not'
    holder.signal(signal.SIGCONT)
    until(lambda: ends(half) > ends(other) - 8000, 'it renews its lease, too')
    redis.rpush('gate', 'open')
    until(lambda: job.is_finished, 'its job ends')
    assert job.latest_result().worker_name == 'holder' and not redis.exists('entered'), 'it ran once'


def test_a_supervisor_that_leaves_gives_up_its_lease(work, queue, redis):
    running = work.start(recover=RECOVER)
    assert redis.zcard('rq:pool_leases') == 1
    running.stop()
    assert redis.keys('rq:pool_lease*') == []


def test_without_the_setting_there_is_no_lease(work, redis):
    work.burst()
    assert redis.keys('rq:pool_lease*') == []
