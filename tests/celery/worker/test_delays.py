"""Tasks that are due much later wait in a chain of queues at the RabbitMQ server. What is lost on their way there?"""

import pytest

from harness.wire import ACK, DELIVER, PUBLISH, Wire
from support.wait import until

pytestmark = pytest.mark.over('rabbitmq')

#: What is kept back: its word, and whether the server sends it.
KEPT_BACK = {'message': (PUBLISH, False), 'confirmation': (ACK, True)}


@pytest.fixture
def side(alone):
    """A pool that reaches its server by a wire."""
    side = alone('pool')
    port = side.broker.server.port
    side.wire = Wire(port)
    side.url = side.url.replace(f':{port}/', f':{side.wire.port}/')
    side.start('--without-heartbeat', workers=1)
    until(side.is_quiet, 'its first task is acknowledged')
    yield side
    side.wire.cut()
    side.wire.release()


def send_on_its_way(side, kept_back):
    """A task that is due in an hour. Its message to the chain, or what the server says to that, has not arrived."""
    side.wire.keep_back(*KEPT_BACK[kept_back])
    side.send('shop.add', 1, 2, countdown=3600)
    until(lambda: side.wire.holds, f'the {kept_back} is on its way')


def where(side):
    """How many messages wait in the chain, how many in the queue of the task, and how many the pool holds."""
    queues = side.broker.server.queues(side.broker.vhost)
    chain = sum(sum(counts) for name, counts in queues.items() if name.startswith('pool_celery_delayed_'))
    return chain, *queues['celery']


@pytest.mark.parametrize('kept_back', KEPT_BACK)
def test_a_lost_channel_puts_a_task_into_the_chain_once(side, kept_back):
    """Its copy comes while the server's confirmation is awaited, and is acknowledged with the first one."""
    send_on_its_way(side, kept_back)
    wire = side.wire
    delivered = wire.passed.count(DELIVER)
    for connection in wire.connections:
        if connection is not wire.holds:
            connection.end()
    until(lambda: wire.passed.count(DELIVER) > delivered, 'its copy comes')
    assert where(side)[1:] == (0, 1)
    wire.release()
    until(lambda: where(side) == (1, 0, 0), 'it is in the chain')
    assert "can't be put aside" not in side.output()


@pytest.mark.parametrize(('kept_back', 'chain'), [('message', 1), ('confirmation', 2)])
def test_a_task_is_not_lost_with_all_connections(side, kept_back, chain):
    """Nobody knows whether the server has a message that it did not confirm: the message is sent once more."""
    send_on_its_way(side, kept_back)
    for connection in side.wire.connections:
        connection.end()
    side.wire.release()
    until(lambda: where(side) == (chain, 0, 0), 'it is in the chain')


@pytest.mark.parametrize(('kept_back', 'chain'), [('message', 0), ('confirmation', 1)])
def test_a_task_is_held_if_only_the_way_into_the_chain_is_lost(side, kept_back, chain):
    send_on_its_way(side, kept_back)
    side.wire.holds.end()
    side.wire.release()
    until(lambda: "can't be put aside: it is held" in side.output(), 'it is said')
    assert where(side) == (chain, 0, 1)
