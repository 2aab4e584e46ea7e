"""What pool promises where processes die."""

import signal

from support.server import free_port
from support.wait import until

#: So that what a dead supervisor held comes back soon.
SHORT_LEASE = ('--lease', '3s', '--heartbeat', '1s')


def test_late_tasks_of_a_killed_supervisor_run_once_more(alone):
    """What had not begun runs once in all; what ran when it died, twice at most."""
    side = alone('pool')
    first = side.start(*SHORT_LEASE, '--prefetch', '8')
    results = [side.send('shop.sleeps_late', f'late {n}', 0.3) for n in range(20)]
    until(lambda: side.runs('late 3'), 'some run')
    first.kill()
    first.wait()
    begun = {n for n in range(20) if side.runs(f'late {n}')}
    side.start(*SHORT_LEASE)
    until(lambda: all(result.ready() for result in results), 'all come back and end', 60)
    for n in range(20):
        assert side.runs(f'late {n}') in ((1, 2) if n in begun else (1,)), n
    until(side.is_quiet, 'no message is left')


def test_early_tasks_that_had_not_begun_survive_a_killed_supervisor(alone):
    """One that ran when it died is lost, as its contract says."""
    side = alone('pool')
    first = side.start(*SHORT_LEASE, '--prefetch', '8')
    results = [side.send('shop.sleeps', f'early {n}', 0.3) for n in range(20)]
    until(lambda: side.runs('early 3'), 'some run')
    first.kill()
    first.wait()
    begun = {n for n in range(20) if side.runs(f'early {n}')}
    side.start(*SHORT_LEASE)
    left = [result for n, result in enumerate(results) if n not in begun]
    until(lambda: all(result.ready() for result in left), 'the others end', 60)
    assert {side.runs(f'early {n}') for n in range(20) if n not in begun} == {1}
    until(side.is_quiet, 'no message is left')


def test_a_stopped_pool_gives_back_what_it_held(alone):
    """A near ETA and what was only prefetched are in their queue at once, for whoever comes next."""
    side = alone('pool')
    side.start()
    later = [side.send('shop.add', n, n, countdown=45) for n in range(5)]
    until(lambda: side.broker.waiting('celery') == 0, 'they are taken')
    assert side.stop() == [0]
    assert side.broker.waiting('celery') == 5
    assert side.broker.unacked() == 0
    assert not any(result.ready() for result in later)


def test_a_worker_that_dies_between_tasks_is_replaced(alone):
    side = alone('pool')
    side.start(workers=1)
    for _ in range(3):
        name = side.send('shop.killed')
        until(name.ready, 'it is told to be lost')
        assert name.state == 'FAILURE' and 'WorkerLostError' in repr(name.result)
    assert side.send('shop.add', 1, 2).get(timeout=30) == 3


def test_a_message_that_is_no_json_stops_nobody(alone):
    side = alone('pool')
    side.broker.put('celery', b'this is no JSON')
    side.start()
    assert side.send('shop.add', 1, 2).get(timeout=30) == 3


def test_a_broker_that_is_away_ends_it_with_3(alone):
    """If the application says that it is not tried again."""
    side = alone('pool', conf={'broker_connection_retry_on_startup': False})
    process = side.start('-b', 'redis://127.0.0.1:1/0', ready=False)
    assert process.wait(60) == 3, side.output()
    assert 'cannot reach' in side.output()


def test_a_broker_that_is_away_is_tried_so_often(alone):
    side = alone('pool', conf={'broker_connection_max_retries': 1})
    process = side.start('-b', 'redis://127.0.0.1:1/0', ready=False)
    assert process.wait(60) == 3, side.output()
    assert side.output().count('it is tried again') == 1


def test_early_tasks_whose_results_nobody_takes_run_once(alone):
    side = alone('pool')
    side.conf['result_backend'] = f'redis://127.0.0.1:{free_port()}/0'  # the worker's, not the producer's
    side.start(ready=False)
    for name in ('a', 'b', 'c'):
        side.send('shop.sleeps', name, 0)
    until(lambda: [side.runs(name) for name in 'abc'] == [1, 1, 1], 'they run', 60)
    side.stop()
    assert 'these outcomes were not taken' in side.output()
    assert side.is_quiet(), 'they are acknowledged'


def test_an_app_that_is_not_there_ends_it_with_1(alone):
    side = alone('pool')
    process = side.start('-A', 'nowhere', ready=False)
    assert process.wait(60) == 1, side.output()
    assert 'nowhere' in side.output()


def test_int_lets_tasks_finish(alone):
    side = alone('pool')
    process = side.start()
    result = side.send('shop.sleeps', 'finishes', 1)
    until(lambda: side.runs('finishes'), 'it runs')
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert result.get(timeout=10) == 'finishes'


def test_a_poison_task_ends(alone):
    """With `reject_on_worker_lost` stock would run it without end."""
    side = alone('pool')
    side.start('--max-worker-losses', '3')
    result = side.send('shop.killed_always', 'poison')
    until(result.ready, 'it is given up', 60)
    assert result.state == 'FAILURE' and side.runs('poison') == 3, side.runs('poison')
    until(side.is_quiet, 'no message is left')
