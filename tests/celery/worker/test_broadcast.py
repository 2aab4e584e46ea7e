"""Broadcast queues: each node runs each task that is sent there."""

import pytest
from kombu import Exchange

from support.wait import until


def broadcast(side, name, **options):
    """Sends a task to each node, as an application does that has the queue among its own."""
    exchange = Exchange('news', type='fanout')
    options = {'exchange': exchange, 'routing_key': 'celery', 'declare': [exchange], 'ignore_result': True, **options}
    side.app.send_task('shop.quiet', (name,), exchange_type='fanout', **options)


@pytest.mark.parametrize('kind', ['stock', 'pool'])
def test_each_node_runs_each_task(alone, kind):
    side = alone(kind, {'broadcast': ['news']})
    side.start('-n', 'one@%h', workers=1)
    side.start('-n', 'two@%h', workers=1, ready=False)
    send = lambda name, **options: broadcast(side, name, **options)
    attempts = iter(range(100))

    def both_hear():
        name = f'anybody {next(attempts)}'
        send(name)
        try:
            return until(lambda: side.runs(name) == 2, 'both run it', 1)
        except AssertionError:
            return False

    until(both_hear, f'both nodes of {kind} hear what is broadcast')
    for number in range(10):
        send(f'now {number}')
    send('later', countdown=1)
    names = [*(f'now {number}' for number in range(10)), 'later']
    until(lambda: [side.runs(name) for name in names] == [2] * 11, 'each runs once at each node')
    side.send('shop.quiet', 'for one')
    until(lambda: side.runs('for one') == 1, 'other queues are as ever')
    assert [side.runs(name) for name in names] == [2] * 11


def test_its_name_names_it(alone):
    """As it does with `celery worker -Q`."""
    side = alone('pool', {'broadcast': ['news']})
    side.start('-Q', 'celery,news', workers=1)
    broadcast(side, 'named')
    until(lambda: side.runs('named') == 1, 'it runs')
    assert side.stop() == [0]
