"""What was revoked is known after a restart (`--statedb`); ids that are numbers; times without a zone."""

import datetime

import pytest

from support.wait import until
from worker.test_control import NODE, ask, heard

UTC = datetime.timezone.utc


def restarted(side, path):
    side.stop()
    side.start('-S', str(path), workers=1)
    heard(side)


@pytest.mark.over('redis')
def test_what_was_revoked_is_known_after_a_restart(alone, tmp_path):
    sides = [alone('stock'), alone('pool')]
    for side in sides:
        path = tmp_path / side.kind
        side.start('--statedb', str(path), workers=1)
        heard(side)
        ask(side, 'revoke', {'task_id': ['one', 'two']})
        clock = ask(side, 'clock')[NODE]['clock']
        restarted(side, path)
        assert sorted(ask(side, 'revoked')[NODE]) == ['one', 'two']
        assert ask(side, 'clock')[NODE]['clock'] > clock
        one = side.send('shop.add', 1, 2, task_id='one')
        until(lambda: one.state == 'REVOKED', f'{side.kind} knows it')


@pytest.mark.over('redis')
def test_a_killed_supervisor_forgets_nothing_and_knows_what_a_stock_worker_kept(alone, tmp_path):
    stock, pool = alone('stock'), alone('pool', {'worker_state_db': str(tmp_path / 'state')})
    stock.start('--statedb', str(tmp_path / 'state'), workers=1)
    heard(stock)
    ask(stock, 'revoke', {'task_id': 'theirs'})
    stock.stop()
    process = pool.start(workers=1)
    heard(pool)
    ask(pool, 'revoke', {'task_id': 'ours'})
    process.kill()
    process.wait()
    pool.start(workers=1)
    heard(pool)
    assert sorted(ask(pool, 'revoked')[NODE]) == ['ours', 'theirs']


def test_a_state_file_that_can_not_be_written_is_said(alone):
    side = alone('pool')
    process = side.start('-S', '/nowhere/state', workers=1, ready=False)
    assert process.wait(60) == 1
    assert '/nowhere/state.pool' in side.output()


@pytest.mark.over('redis')
def test_ids_may_be_numbers(alone):
    """Neither Celery's own results nor its library for RabbitMQ know such ids."""
    for side in [alone('stock'), alone('pool')]:
        side.start(workers=1)
        heard(side)
        ask(side, 'revoke', {'task_id': [18]})
        for number in (17, 18):
            side.send('shop.quiet', f'number {number}', task_id=number, ignore_result=True)
        assert side.send('shop.add', 1, 2).get(timeout=30) == 3
        assert (side.runs('number 17'), side.runs('number 18')) == (1, 0), side.kind


def test_times_without_a_zone_are_utc(alone):
    """Whatever the application's time zone is."""
    conf = {'timezone': 'America/New_York', 'enable_utc': False}
    for side in [alone('stock', conf), alone('pool', conf)]:
        side.start(workers=1)
        naive = lambda seconds: (datetime.datetime.now(UTC).replace(tzinfo=None) + datetime.timedelta(seconds=seconds)).isoformat()
        soon = side.send('shop.add', 1, 2, eta=naive(1), expires=naive(60))
        late = side.send('shop.add', 1, 2, eta=naive(-60))
        expired = side.send('shop.add', 1, 2, expires=naive(-60))
        assert late.get(timeout=30) == 3 and soon.get(timeout=30) == 3
        if side.broker.transport == 'redis':  # RabbitMQ drops it
            until(lambda: expired.state == 'REVOKED', f'{side.kind} refuses what is too late')
