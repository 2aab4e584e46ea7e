"""The pool's own verbs on Celery's tasks, and what is stored of a task that no worker can end."""

import json
import signal
import subprocess

import pytest

from support.wait import until
from worker.sides import APP, POOL


@pytest.fixture
def pool(alone, tmp_path):
    """A pool, and the verbs for its application."""
    side = alone('pool', conf={'task_routes': {'shop.text': {'queue': 'mail'}, 'shop.requ*': {'queue': 'mail'}}})
    side.socket = str(tmp_path / 'pool.sock')

    def verb(*words):
        command = [POOL, *words, '--broker', 'app:shop', '--socket', side.socket]
        env = {**side.environment(), 'POOL_PYTHON': side.python()}
        return subprocess.run(command, env=env, cwd=str(APP), capture_output=True, text=True, timeout=60)

    side.verb = verb
    return side


def test_a_task_is_enqueued_and_waited_for_by_the_name_of_its_application(pool):
    # Nobody has loaded it yet: the verb does.
    early = pool.verb('enqueue', 'shop.add', '[1, 2]')
    assert (early.returncode, early.stderr) == (0, 'note: no worker serves the queue `celery` now\n'), early
    line = ['celery', '-A', 'shop', 'worker', '-c', '1', '--python', pool.python(), '--socket', pool.socket]
    pool.spawn([POOL, *line])
    assert pool.verb('wait', early.stdout.strip(), '--timeout', '30s').returncode == 0
    added = pool.verb('enqueue', 'shop.add', '{"x": 3, "y": 4}', '--wait=30s')
    assert (added.stdout, added.stderr) == ('7\n', ''), added
    failed = pool.verb('enqueue', 'shop.boom', '["gone"]', '--wait=30s')
    assert failed.returncode == 1 and 'ValueError: gone' in failed.stderr
    assert 'pool dead' not in failed.stderr
    # A task goes where a producer's router would send it, or where it is told.
    for chosen, queue in ([], 'mail'), (['--queue', 'celery'], 'celery'):
        routed = pool.verb('enqueue', 'shop.request', *chosen, '--wait=30s')
        assert json.loads(routed.stdout)['routing_key'] == queue
    assert pool.verb('enqueue', 'shop.text', '["a"]', '--wait=30s').stdout == '"a"\n'
    mistyped = pool.verb('enqueue', 'shop.text', '["a"]', '--queue', 'report')
    assert mistyped.stderr == 'note: no worker serves the queue `report` now\n', mistyped


def test_there_are_no_dead_letters_and_it_says_why(pool):
    listed = pool.verb('dead', 'list')
    assert (listed.returncode, listed.stdout) == (0, '')
    assert 'Celery keeps none' in listed.stderr
    assert pool.verb('dead', 'retry', '--all').returncode == 1


def test_of_a_task_that_nobody_knows_there_is_no_result(pool):
    asked = pool.verb('result', 'none')
    assert asked.returncode == 1 and 'it waits, or there is no such job' in asked.stderr


def test_a_task_whose_end_no_worker_can_store_has_failed(alone):
    side = alone('pool')
    side.start('-I', 'gather')
    lost = side.send('gather.lost_without_a_hook')
    error = lost.get(timeout=60, propagate=False)
    assert type(error).__name__ == 'WorkerLostError' and 'signal 9' in str(error)
    assert 'this hook never works' in side.output()
    until(side.is_quiet, 'its message is acknowledged')


def test_an_early_task_that_a_stop_cuts_short_is_stored_as_retry(alone):
    """As a stock worker stores it at a cold shutdown."""
    for kind in ('stock', 'pool'):
        side = alone(kind)
        process = side.start()
        result = side.send('shop.sleeps', 'long', 60)
        until(lambda: side.runs('long'), 'it runs')
        until(side.is_quiet, 'it is acknowledged')
        process.send_signal(signal.SIGQUIT)
        process.wait(60)
        assert result.state == 'RETRY', kind
        assert side.is_quiet(), kind
