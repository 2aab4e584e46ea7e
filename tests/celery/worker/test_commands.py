"""Remote control that needs the application: its own commands, attributes of tasks, requests that are no JSON."""

import pytest

from support.wait import until
from worker.sides import together
from worker.test_control import NODE, ask, both, command, heard, of_both  # noqa: F401


@pytest.mark.parametrize(
    ('method', 'arguments'),
    [
        ('offer', {}),
        ('offer', {'price': 2.5}),
        ('close_shop', {'why': 'holidays'}),
        ('close_shop', {'nonsense': 1}),
        ('registered', {'taskinfoitems': ['max_retries', 'acks_late', 'nothing']}),
        ('dump_tasks', {'taskinfoitems': ['rate_limit'], 'builtins': True}),
    ],
    ids=str,
)
def test_what_only_the_application_knows(both, method, arguments):  # noqa: F811
    stock, pool = of_both(both, method, arguments)
    assert stock == pool
    if arguments == {'why': 'holidays'}:
        assert [side.runs('closed for holidays') for side in both] == [1, 1]


def test_own_commands_from_the_command_line(both):  # noqa: F811
    stock, pool = together(both, lambda side: command(side, 'inspect', 'offer', '3.5'))
    assert stock.stdout == pool.stdout and '"price": 3.5' in pool.stdout


def test_a_command_does_not_hold_up_others(alone):
    """All processes are busy: a command of the application waits for one, all else is answered."""
    side = alone('pool')
    side.start(workers=1)
    heard(side)
    side.send('shop.sleeps', 'runs', 2)
    until(lambda: side.runs('runs'), 'it runs')
    assert not ask(side, 'offer', timeout=0.3)
    assert ask(side, 'ping')[NODE] == {'ok': 'pong'}
    # The answer to the first one comes late, and is the one answer for which the client then waits.
    until(lambda: ask(side, 'offer').get(NODE, {}).get('price') == 1.0, 'the command is answered')


def test_requests_and_answers_in_the_serializer_of_the_application(alone):
    """With pickles, and without JSON being accepted; what is not accepted stops nobody."""
    conf = {'task_serializer': 'pickle', 'accept_content': ['pickle']}
    sides = [alone('stock', conf), alone('pool', conf)]
    for side in sides:
        side.start(workers=1)
        heard(side)
    for method in ('ping', 'offer', 'active', 'nosuchcommand'):
        stock, pool = of_both(sides, method)
        assert stock == pool, method
    for side in sides:
        side.app.control.mailbox.serializer = 'json'
        assert not ask(side, 'ping', timeout=0.5)
        side.app.control.mailbox.serializer = 'pickle'
        assert ask(side, 'ping')[NODE] == {'ok': 'pong'}
    assert 'ContentDisallowed' in sides[1].output()
