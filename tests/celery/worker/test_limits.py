"""How often tasks begin, and how long they may run, changed while a node runs."""

import time

import pytest

from support.wait import until
from worker.test_control import NODE, ask, heard, looked_at


@pytest.fixture
def limited(alone):
    """A stock worker and a pool whose task `quiet` begins twice a second."""
    sides = [alone('stock'), alone('pool')]
    for side in sides:
        side.conf['task_annotations'] = {'shop.quiet': {'rate_limit': '2/s'}}
        side.start(workers=2)
        heard(side)
    return sides


def test_a_limited_task_begins_at_its_rate_and_delays_no_other(limited):
    for side in limited:
        for _ in range(60):
            side.send('shop.quiet', 'limited')
        due = side.send('shop.add', 1, 2, countdown=0.5)
        marker = side.send('shop.add', 1, 2)
        if side.kind == 'pool':  # the stock worker holds eight messages at most, whatever they are
            assert marker.get(timeout=10) == due.get(timeout=10) == 3
            assert side.runs('limited') < 30
        since, before = time.monotonic(), side.runs('limited')
        until(lambda side=side, before=before: side.runs('limited') >= before + 4, f'{side.kind} goes on')
        assert time.monotonic() - since > 1.2, 'two a second'


def test_a_rate_is_changed_and_taken_away(limited):
    for side in limited:
        for _ in range(40):
            side.send('shop.quiet', 'many')
        until(lambda side=side: side.runs('many') >= 1, 'the first one ran')
    for method, arguments in [
        ('rate_limit', {'task_name': 'shop.unknown', 'rate_limit': '1/s'}),
        ('rate_limit', {'task_name': 'shop.add', 'rate_limit': 'often'}),
        ('rate_limit', {'task_name': 'shop.add', 'rate_limit': '1/d'}),
        ('rate_limit', {'task_name': 'shop.add', 'rate_limit': '10/m'}),
        ('registered', {}),
        ('rate_limit', {'task_name': 'shop.add', 'rate_limit': 0}),
        ('time_limit', {'task_name': 'shop.unknown', 'soft': 1, 'hard': 2}),
        ('time_limit', {}),
        ('rate_limit', {'task_name': 'shop.quiet', 'rate_limit': ''}),
    ]:
        stock, pool = (ask(side, method, arguments)[NODE] for side in limited)
        assert stock == pool, (method, arguments)
    assert any('shop.quiet [rate_limit=2/s]' in line for line in ask(limited[1], 'registered')[NODE]) is False
    for side in limited:
        until(lambda side=side: side.runs('many') == 40, f'{side.kind} runs all at once', 15)


def test_held_messages_come_back_when_the_pool_leaves(alone):
    side = alone('pool', {'task_annotations': {'shop.quiet': {'rate_limit': '1/m'}}})
    side.start(workers=1)
    ids = [side.send('shop.quiet', 'held').id for _ in range(20)]
    until(lambda: side.broker.waiting('celery') == 0, 'all are taken')
    reserved = looked_at(side, 'reserved', lambda tasks: len(tasks) == 19)
    assert {task['id'] for task in reserved} == set(ids[1:])
    assert looked_at(side, 'stats', lambda stats: stats['prefetch_count'] == 19)
    side.stop()
    assert side.broker.waiting('celery') == 19 and side.broker.unacked() == 0


def test_time_limits_are_changed(alone):
    sides = [alone('stock'), alone('pool')]
    for side in sides:
        side.start(workers=1)
        heard(side)
    arguments = {'task_name': 'shop.sleeps', 'soft': 0.3, 'hard': 20}
    stock, pool = (ask(side, 'time_limit', arguments)[NODE] for side in sides)
    assert stock == pool == {'ok': 'time limits set successfully'}
    # The stock worker says so, and goes on as before: it has built its requests with the former limits.
    pool = sides[1]
    result = pool.send('shop.sleeps', 'soft', 30)
    until(result.ready, 'the soft limit strikes')
    assert repr(result.result) == 'SoftTimeLimitExceeded()'
    ask(pool, 'time_limit', {'task_name': 'shop.sleeps', 'hard': 0.5})
    result = pool.send('shop.sleeps', 'hard', 30)
    until(result.ready, 'the hard limit strikes')
    assert repr(result.result) == 'TimeLimitExceeded(0.5)'


def test_tasks_are_revoked_by_their_stamps(alone):
    sides = [alone('stock'), alone('pool')]
    found = []
    for side in sides:
        side.start('--prefetch-multiplier', '2', workers=1)
        heard(side)
        stamped = {'stamped_headers': ['user'], 'user': ['ann']}
        running = side.send('shop.sleeps', 'runs', 60, **stamped)
        until(lambda side=side: side.runs('runs'), 'it runs')
        answers = [ask(side, 'revoke_by_stamped_headers', {'headers': {'user': ['bob']}})[NODE]]
        bob = side.send('shop.add', 1, 2, stamped_headers=['user'], user=['bob'])
        answers.append(ask(side, 'revoke_by_stamped_headers', {'headers': ['user=cec'], 'terminate': True})[NODE])
        arguments = {'headers': {'user': 'ann'}, 'terminate': True, 'signal': 'SIGKILL'}
        answers.append(ask(side, 'revoke_by_stamped_headers', arguments)[NODE])
        until(lambda bob=bob, running=running: bob.ready() and running.ready(), 'both are revoked')
        found.append((answers, bob.state, running.state, side.runs('runs')))
    assert found[0] == found[1]
    assert found[1][1:3] == ('REVOKED', 'REVOKED')
