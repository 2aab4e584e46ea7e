"""What the supervisor is told of a run: what is counted, what becomes of the message, what events say."""

import signal

import pytest

from harness import messages
from support.wait import until


@pytest.mark.parametrize(
    'task, args, state, then',
    [
        ('proj.add', (1, 2), 'SUCCESS', 'ack'),
        ('proj.quiet', (), 'SUCCESS', 'ack'),
        ('proj.boom', (), 'FAILURE', 'ack'),
        ('proj.boom_late', (), 'FAILURE', 'reject'),
        ('proj.again', (), 'RETRY', 'ack'),
        ('proj.ignored', (), 'IGNORED', 'ack'),
        pytest.param('proj.rejected', (False,), 'FAILURE', 'reject', marks=pytest.mark.celery57),
        ('proj.rejected', (True,), 'REJECTED', 'requeue'),
        ('proj.no_json', (), 'FAILURE', 'ack'),
        ('proj.leave', (3,), 'FAILURE', 'ack'),
        ('proj.no_memory', (), 'FAILURE', 'ack'),
        ('proj.own_request', (False,), 'SUCCESS', 'ack'),
        ('proj.own_request', (True,), 'FAILURE', 'ack'),
        ('proj.raises_lost', (), 'FAILURE', 'ack'),
        ('no.such.task', (), 'FAILURE', 'reject'),
    ],
    ids=str,
)
def test_each_end_of_a_task_says_what_becomes_of_its_message(pool, task, args, state, then):
    for kind in (messages.TASK, messages.WHOLE):
        answer = pool.send(task, *args, kind=kind)
        assert (answer.state, answer.then) == (state, then)
        assert answer.failed == (state == 'FAILURE')


def test_events_have_their_texts(pool):
    success = pool.send('proj.add', 'a', 'b').outcome
    assert success['result'] == "'ab'" and 0 < success['runtime'] < 10
    failure = pool.send('proj.boom').outcome
    assert failure['exception'] == "KeyError('nope')" and failure['traceback'].endswith("KeyError: 'nope'\n")
    retry = pool.send('proj.again').outcome
    assert retry['exception'] == "ValueError('not yet')" and 'proj.py' in retry['traceback']


def test_a_failure_is_told_as_every_failure_is(pool):
    error = pool.send('proj.boom').error
    assert error['kind'] == 'KeyError' and error['message'] == "'nope'" and 'in boom' in error['detail']
    assert pool.send('no.such.task').error['kind'] == 'celery.exceptions.NotRegistered'
    assert 'exitcode 3' in pool.send('proj.leave', 3).error['message']


def test_a_retry_is_published_by_the_worker(pool, side):
    pool.send('proj.again', task_id='again')
    envelope = messages.taken(side.redis)
    assert (envelope['headers']['id'], envelope['headers']['retries']) == ('again', 1)
    assert envelope['headers']['eta']


def test_the_soft_limit_of_a_message_goes_before_the_tasks(pool):
    pool.app.send_task('proj.patient', soft_time_limit=0.05)
    answer = pool.run(messages.taken(pool.redis))
    assert answer.outcome['result'] == "'interrupted'" and answer.outcome['runtime'] < 0.2
    pool.app.send_task('proj.sleep_noted', (30,), soft_time_limit=0.05)
    assert pool.run(messages.taken(pool.redis)).error['kind'].endswith('SoftTimeLimitExceeded')
    assert pool.send('proj.add', 1, 2).state == 'SUCCESS'  # no limit is left over


def test_sigusr1_interrupts_a_task_and_nothing_else(pool):
    pool.worker.kill(signal.SIGUSR1)
    assert pool.send('proj.add', 1, 2).state == 'SUCCESS'
    pool.app.send_task('proj.sleep_noted', (30,), task_id='sleeps')
    execution = pool.worker.send('celery', payload=messages.payload(messages.taken(pool.redis)), kind=messages.TASK)
    sleeps = f'/proc/{pool.worker.pid}/wchan'
    until(lambda: 'sleep' in open(sleeps).read(), 'the task sleeps')
    pool.worker.kill(signal.SIGUSR1)
    done = pool.worker.done()
    assert done.execution == execution and b'SoftTimeLimitExceeded' in done.data


def test_a_process_that_a_task_forks_leaves_where_the_task_ends(pool):
    assert pool.send('proj.fork_child').outcome['result'] == '0'


def test_the_process_bears_its_seats_name(pool):
    assert pool.send('proj.seat').outcome['result'] == f"['ForkPoolWorker-1', {pool.worker.pid}]"


def test_a_terminated_worker_ends_with_its_task(start):
    pool = start()
    pool.app.send_task('proj.sleep_noted', (0.3,))
    pool.worker.send('celery', payload=messages.payload(messages.taken(pool.redis)), kind=messages.TASK)
    until(lambda: 'sleep' in open(f'/proc/{pool.worker.pid}/wchan').read(), 'the task sleeps')
    pool.worker.kill(signal.SIGTERM)
    assert pool.worker.done().code == 0
    pool.worker.wait_gone()
    assert pool.template.status_of(pool.worker) == 0


@pytest.mark.parametrize('fresh', [False, True])
def test_a_process_begins_and_ends_as_a_child_of_celerys_pool(start, side, fresh):
    pool = start(fresh=fresh)
    begun = [pool.send('proj.seat').outcome['result'] for _ in range(3)]
    pids = [int(text.rstrip(']').split(', ')[1]) for text in begun]
    assert all(text.startswith("['ForkPoolWorker-1'") for text in begun)
    assert len(set(pids)) == (3 if fresh else 1)
    pool.worker.hang_up()
    pool.worker.wait_gone()
    node = pool.facts['node']
    started = side.notes('worker_process_init')
    assert [f'worker_process_init {node} {pid}' for pid in dict.fromkeys(pids)] == started[: len(set(pids))]
    ended = side.notes('worker_process_shutdown')
    assert [f'worker_process_shutdown {node} {pid} 0' for pid in dict.fromkeys(pids)] == ended[: len(set(pids))]
