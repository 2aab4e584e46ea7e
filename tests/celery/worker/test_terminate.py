"""Running tasks are ended by remote control, with the signal that is asked for."""

import pytest

from support.wait import until
from worker.test_control import NODE, ask, both, heard  # noqa: F401


def ended(side, name, signal):
    """The answer, and state and value of a task that was told to end while it ran."""
    result = side.send(f'shop.{name}', name, *((30,) if name == 'sleeps' else ()))
    until(lambda: side.runs(name), 'it runs')
    asked = {'task_id': result.id, 'terminate': True, 'signal': signal}
    answer = ask(side, 'revoke', asked)[NODE]['ok'].replace(result.id, 'ID')
    until(result.ready, f'{side.kind} ends it')
    return answer, result.state, repr(result.result)


@pytest.mark.parametrize('signal', ['SIGKILL', 'TERM', 'INT'])
def test_a_signal_that_kills(both, signal):  # noqa: F811
    stock, pool = (ended(side, 'sleeps', signal) for side in both)
    assert stock == pool == ('terminate: ID', 'REVOKED', "TaskRevokedError('terminated')")


@pytest.mark.parametrize(
    ('name', 'end'),
    [('sleeps', ('FAILURE', 'SoftTimeLimitExceeded()')), ('cleans_up', ('SUCCESS', "'cleaned up'"))],
)
def test_the_soft_limit(both, name, end):  # noqa: F811
    """A stock worker says REVOKED at once, and so does its task: the last one is kept. Here the task alone says it."""
    stock, pool = (ended(side, name, 'USR1') for side in both)
    assert stock[0] == pool[0] == 'terminate: ID'
    assert stock[1] in ('REVOKED', end[0])
    assert pool[1:] == end


def test_a_process_for_each_task(alone):
    side = alone('pool')
    side.start('--isolation', 'fresh', workers=1)
    heard(side)
    assert ended(side, 'cleans_up', 'USR1')[1:] == ('SUCCESS', "'cleaned up'")
    assert ended(side, 'sleeps', 'KILL')[1] == 'REVOKED'
    assert side.send('shop.add', 1, 2).get(timeout=30) == 3
