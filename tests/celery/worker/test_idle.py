"""A pool that has nothing to do: what it sends while it tells of tasks, heartbeat by heartbeat."""

from collections import Counter

import pytest

from harness.watch import Watch
from harness.wire import Wire

WORKERS, HEARTBEATS = 4, 3
#: What a supervisor sends by a clock of half a minute or more: it waits for each list anew, and looks for peers that died.
LISTS = 4
ROUND = {'blmove': LISTS, 'evalsha': 2, 'time': 2, 'zrange': 2}


def heartbeats(watch, count):
    """Waits for so many more."""
    beats = lambda events: sum(event['type'] == 'worker-heartbeat' for event in events)
    before = beats(watch.events())
    watch.until(lambda events: beats(events) >= before + count, f'{count} heartbeats')
    return beats(watch.events()) - before


@pytest.fixture
def idle(alone):
    """Starts a side that has run a task, and tells of it; who hears."""
    watches = []

    def begin(url=None):
        side = alone('pool')
        watches.append(Watch(side))
        side.url = url(side) if url else side.url
        side.start('-E', '-Q', 'celery', workers=WORKERS)
        heartbeats(watches[-1], 1)  # its start is over
        return side, watches[-1]

    yield begin
    for watch in watches:
        watch.close()


@pytest.mark.over('redis')
def test_over_redis_a_heartbeat_costs_one_command_whatever_the_workers(idle):
    side, watch = idle()

    def sent():
        stats = side.redis.info('commandstats')
        return Counter({name.removeprefix('cmdstat_'): stat['calls'] for name, stat in stats.items()})

    before = sent()
    beats = heartbeats(watch, HEARTBEATS)
    came = sent() - before - Counter(['info'])
    assert came.pop('publish') <= beats + 1, came
    assert all(count <= ROUND.get(name, 0) for name, count in came.items()), came


@pytest.mark.over('rabbitmq')
def test_over_rabbitmq_nothing_but_heartbeats(idle):
    wires = []

    def through(side):
        port = side.broker.server.port
        wires.append(Wire(port))
        return side.url.replace(f':{port}/', f':{wires[0].port}/')

    _, watch = idle(through)
    before = len(wires[0].passed)
    beats = heartbeats(watch, HEARTBEATS)
    came = Counter(wires[0].passed[before:])
    published = came.pop('method 60.40')
    assert published <= beats + 1, came
    del came['heartbeat'], came['frame 2'], came['frame 3']  # head and body of what is published
    assert not came, came
