"""What only RabbitMQ does to a worker."""

import pytest
from kombu import Exchange, Queue

from harness.rabbit import RabbitServer
from harness.wire import Wire
from support.wait import until
from worker.brokers import RabbitBroker
from worker.sides import Side

pytestmark = pytest.mark.over('rabbitmq')

#: Bits of a delay. Source: kombu/transport/native_delayed_delivery.py
BITS = 28


@pytest.fixture(scope='module')
def odd_server():
    """A server with little patience. It is not shared, so it may have an alarm."""
    server = RabbitServer('consumer_timeout = 2000\n')
    yield server
    server.stop()


@pytest.fixture
def odd_side(odd_server, worker_server):
    side = Side('pool', RabbitBroker(odd_server), worker_server, 7)
    yield side
    side.close()


def delayed(side):
    """Messages that wait for their time at the server."""
    queues = side.broker.server.queues(side.broker.vhost)
    return sum(ready for name, (ready, _) in queues.items() if name.startswith('pool_celery_delayed_'))


def test_a_task_that_is_due_much_later_waits_at_the_server(alone):
    """And comes to its queue as if it had been sent there then."""
    side = alone('pool')
    side.start()
    later = side.send('shop.add', 1, 2, countdown=3600, expires=7200)
    until(lambda: delayed(side) == 1, 'it waits at the server')
    until(lambda: side.broker.unacked() == 0, 'nobody holds it')
    bits = '.'.join(f'{1:0{BITS}b}')
    first = Exchange(f'pool_celery_delayed_{BITS - 1}', type='topic', no_declare=True)
    sent = side.app.send_task('shop.request', exchange=first, routing_key=f'{bits}.celery')
    request = sent.get(timeout=30)
    assert (request['exchange'], request['routing_key']) == ('', 'celery')
    assert not later.ready() and delayed(side) == 1


def test_an_undisturbed_run_gives_nothing_back(alone):
    """Neither when short tasks are followed by long ones, nor with several queues. A quorum queue counts each return."""
    side = alone('pool')
    side.start('-Q', 'celery,mail,other')
    queues = ('celery', 'mail', 'other')
    seconds = [0] * 300 + [1.2] * 9
    results = [side.send('shop.came_again', each, queue=queues[n % 3]) for n, each in enumerate(seconds)]
    assert [result.get(timeout=60) for result in results] == [False] * len(results)
    until(side.is_quiet, 'no message is left')


def test_a_paused_pool_gives_back_what_has_not_begun(alone):
    side = alone('pool')
    side.start(workers=1)
    results = [side.send('shop.came_again', 0.5) for _ in range(30)]
    until(results[0].ready, 'they run')
    side.verb('pause')
    until(lambda: side.broker.unacked() == 0, 'what had not begun is in its queue again')
    assert side.broker.waiting('celery') > 20
    side.verb('resume')
    assert side.send('shop.add', 1, 2, queue='mail').get(timeout=30) == 3


def test_an_idle_pool_sends_and_gets_heartbeats_alone(alone):
    side = alone('pool', conf={'broker_heartbeat': 2})
    port = side.broker.server.port
    wire = Wire(port)
    side.url = side.url.replace(f':{port}/', f':{wire.port}/')
    side.start('-Q', 'celery,mail', '--without-heartbeat')  # Celery's own, which are messages
    assert side.send('shop.add', 1, 2, queue='mail').get(timeout=30) == 3
    until(side.is_quiet, 'all is acknowledged')
    seen = wire.passed
    beats = seen.count('heartbeat')
    until(lambda: seen.count('heartbeat') > beats + 1, 'there are heartbeats')
    before = len(seen)
    until(lambda: len(seen) >= before + 4, 'there are more')
    assert set(seen[before:]) == {'heartbeat'}, seen[before:]
    assert side.send('shop.add', 1, 2).get(timeout=30) == 3


QUORUM = '''
from kombu import Exchange, Queue
from shop import app
app.conf.task_queues = [
    Queue('celery', Exchange('celery', type='topic'), routing_key='celery', queue_arguments={'x-queue-type': 'quorum'})
]
app.conf.task_default_exchange_type = 'topic'
'''


def test_quorum_queues_and_the_delays_of_their_producers(alone, tmp_path):
    (tmp_path / 'quorum.py').write_text(QUORUM)
    side = alone('pool')
    arguments = {'x-queue-type': 'quorum'}
    exchange = Exchange('celery', type='topic')
    side.app.conf.task_queues = [Queue('celery', exchange, routing_key='celery', queue_arguments=arguments)]
    side.start('-A', 'quorum', '--workdir', str(tmp_path))
    chain = [name for name in side.broker.server.queues(side.broker.vhost) if name.startswith('celery_delayed_')]
    assert len(chain) == BITS
    result = side.send('shop.request', countdown=3)
    assert side.send('shop.killed_once', 'once').get(timeout=30) == 'survived' and side.runs('once') == 2
    # A stock worker shows the bits of the delay, which its retries carry on.
    assert result.get(timeout=30)['routing_key'] == 'celery'
    until(side.is_quiet, 'no message is left')


def test_a_queue_that_is_deleted_is_declared_and_consumed_again(alone):
    side = alone('pool')
    side.start()
    server, vhost = side.broker.server, side.broker.vhost
    server.api('DELETE', f'/queues/{vhost}/celery')
    # What is sent to a queue that is not there, the server drops.
    until(lambda: 'celery' in server.queues(vhost), 'it is declared anew')
    assert side.send('shop.add', 1, 2).get(timeout=30) == 3


def test_a_deleted_queue_costs_no_more_than_what_waited_in_it(alone):
    side = alone('pool')
    results = [side.send('shop.sleeps_late', f'late {n}', 0.02) for n in range(300)]
    side.start(ready=False)
    until(lambda: side.runs('late 20'), 'they run')
    with side.app.connection_for_write() as connection:
        dropped = connection.default_channel.queue_delete('celery')
    assert 0 < dropped < 300
    until(lambda: sum(result.ready() for result in results) == 300 - dropped, 'all others end')
    assert {side.runs(f'late {n}') for n in range(300)} == {0, 1}
    until(lambda: 'celery' in side.broker.server.queues(side.broker.vhost), 'the queue is declared anew')
    assert side.send('shop.add', 1, 2).get(timeout=30) == 3


FLEETING = '''
from kombu import Queue
from shop import app
app.conf.task_queues = [Queue('celery', auto_delete=True)]
'''


def test_a_queue_that_goes_with_its_last_consumer_keeps_its_tasks(alone, tmp_path):
    """The only worker is busy for long, and then takes more ahead."""
    (tmp_path / 'fleeting.py').write_text(FLEETING)
    side = alone('pool')
    side.app.conf.task_queues = [Queue('celery', auto_delete=True)]
    side.start('-A', 'fleeting', '--workdir', str(tmp_path), workers=1, ready=False)
    until(lambda: 'celery' in side.broker.server.queues(side.broker.vhost), 'the queue is declared')
    sleeps = [side.send('shop.sleeps_late', f'sleeps {n}', 3) for n in range(2)]
    until(lambda: side.runs('sleeps 0'), 'it runs')
    results = [side.send('shop.add', n, n) for n in range(500)]
    until(lambda: all(result.ready() for result in [*sleeps, *results]), 'all end')


def test_the_next_server_is_taken_when_one_is_away(alone):
    """Also while it runs: what runs then has its copy at the next one, which is the same server by another address."""
    side = alone('pool')
    port, wire = side.broker.server.port, Wire(side.broker.server.port)
    first, second = side.url.replace(f':{port}/', ':1/'), side.url.replace(f':{port}/', f':{wire.port}/')
    side.url = f'{first};{second};{side.broker.url}'
    side.start()
    assert wire.passed, 'it came by the second address'
    running = side.send('shop.sleeps_late', 'runs', 4)
    until(lambda: side.runs('runs'), 'it runs')
    wire.cut()
    assert side.send('shop.add', 1, 2).get(timeout=30) == 3
    assert running.get(timeout=30) == 'runs'
    until(side.is_quiet, 'no message is left')
    assert side.runs('runs') == 1
    errors = [line for line in side.output().splitlines() if ' ERROR ' in line]
    assert len(errors) == 1 and 'cannot reach the server' in errors[0], errors


def test_an_alarm_holds_up_no_acknowledgement(odd_side):
    """While the server is short of memory, it takes no messages, and what is there runs."""
    side = odd_side
    results = [side.send('shop.sleeps_late', f'late {n}', 0.05) for n in range(20)]
    side.start('-E', ready=False)
    until(lambda: side.runs('late 0'), 'they run')
    side.broker.server.set_memory_alarm(True)
    try:
        until(lambda: all(result.ready() for result in results), 'all end')
        until(side.is_quiet, 'all are acknowledged')
    finally:
        side.broker.server.set_memory_alarm(False)
    assert side.send('shop.add', 1, 2).get(timeout=30) == 3


def test_a_task_longer_than_the_servers_patience_runs_once(odd_side):
    """The server closes the channel and delivers it again, while it runs."""
    side = odd_side
    side.start()
    long = side.send('shop.sleeps_late', 'long', 6)
    until(lambda: 'PRECONDITION_FAILED' in side.output(), 'the server loses its patience', 60)
    assert side.send('shop.add', 1, 2).get(timeout=30) == 3
    assert long.get(timeout=60) == 'long'
    until(side.is_quiet, 'no message is left')
    assert side.runs('long') == 1


def test_closed_connections_are_made_anew(alone):
    side = alone('pool')
    side.start('-E')
    running = side.send('shop.sleeps_late', 'runs', 3)
    until(lambda: side.runs('runs'), 'it runs')
    side.broker.server.close_connections(side.broker.vhost)
    assert side.send('shop.add', 1, 2).get(timeout=30) == 3
    assert running.get(timeout=30) == 'runs'
    until(side.is_quiet, 'no message is left')
    assert side.runs('runs') == 1
