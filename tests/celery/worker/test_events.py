"""Events: what a pool tells monitors is what a stock worker tells them, field by field."""

import datetime
import signal
import time
from itertools import groupby

import pytest

from harness.watch import Watch, by_task, listed, without_runs
from support.wait import until
from worker.test_control import NODE, ask, heard


@pytest.fixture(scope='module')
def watched(new_side):
    """A stock worker and a pool that tell of tasks, and who hears them."""
    sides = [new_side('stock', 4), new_side('pool', 5)]
    watches = []
    try:
        for side in sides:
            watches.append(Watch(side))
            side.start('-E', workers=1)
        yield list(zip(sides, watches))
    finally:
        for watch in watches:
            watch.close()
        for side in sides:
            side.close()


def of_both(watched, last, name, *args, **options):
    """Sends the same task to both; its events up to this one, of each."""
    found = []
    for side, watch in watched:
        task_id = options.pop('task_id', None) or f'{name}-{len(watch.messages)}-{side.kind}'
        side.app.send_task(name, args, task_id=task_id, **options)
        events = watch.until_told(task_id, last)
        found.append([{**event, 'uuid': 'id', **({'root_id': 'id'} if 'root_id' in event else {})} for event in events])
    return [without_runs(events) for events in found]


def kinds(events):
    return [event['type'] for event in events]


@pytest.mark.parametrize(
    ('last', 'name', 'args', 'options'),
    [
        ('task-succeeded', 'shop.add', (1, 2), {}),
        ('task-succeeded', 'shop.text', ('é"x',), {'kwargs': {'times': 2}, 'shadow': 'mine'}),
        ('task-failed', 'shop.boom', (), {}),
        ('task-rejected', 'shop.rejected', ('drops',), {}),
        ('task-failed', 'shop.misses_soft_limit', (), {}),
        ('task-failed', 'shop.unknown', (), {}),
        ('task-succeeded', 'shop.add', (1, 2), {'serializer': 'pickle'}),
        ('task-succeeded', 'shop.add', (1, 2), {'compression': 'gzip'}),
    ],
    ids=str,
)
def test_a_task_is_told_alike(watched, last, name, args, options):
    stock, pool = of_both(watched, last, name, *args, **options)
    assert pool == stock
    assert kinds(pool)[-1] == last


def test_a_task_with_a_countdown_is_told_when_it_comes(watched):
    due = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=1)
    expires = due + datetime.timedelta(hours=1)
    stock, pool = of_both(watched, 'task-succeeded', 'shop.add', 3, 4, eta=due, expires=expires)
    assert pool == stock
    assert kinds(pool) == ['task-received', 'task-started', 'task-succeeded']


def test_an_expired_task_is_told_as_revoked(watched):
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    stock, pool = of_both(watched, 'task-revoked', 'shop.add', 3, 4, expires=past)
    assert pool == stock and kinds(pool) == ['task-revoked']


def test_a_retried_task_is_told_each_time(watched):
    found = []
    for side, watch in watched:
        side.app.send_task('shop.retries_by_itself', (f'r-{side.kind}',), task_id=f'retries-{side.kind}')
        events = watch.until_told(f'retries-{side.kind}', 'task-failed')
        assert [event['retries'] for event in events if event['type'] == 'task-received'] == [0, 1]
        found.append(sorted(kinds(events)))  # the next message may come before the first one's end is told
    assert found[0] == found[1], found


def test_a_task_that_rejects_and_requeues_itself(watched):
    """On Redis the message comes again at once."""
    found = []
    for side, watch in watched:
        side.app.send_task('shop.rejected', (f'q-{side.kind}', True), task_id=f'requeued-{side.kind}')
        found.append(kinds(watch.until_told(f'requeued-{side.kind}', 'task-succeeded')))
    assert found[0] == found[1] and found[1].count('task-rejected') == 2, found


def test_a_task_whose_process_dies(watched):
    """Stock says of it that it failed with a wrapper of the error; here it is the error."""
    (_, stock), (pool, watch) = watched
    for side, heard_by in watched:
        side.app.send_task('shop.killed', task_id=f'killed-{side.kind}')
        heard_by.until_told(f'killed-{side.kind}', 'task-failed')
    events = watch.of('killed-pool')
    assert kinds(events) == kinds(stock.of('killed-stock'))
    assert 'signal 9 (SIGKILL)' in events[-1]['exception']


def test_a_revoked_task_is_told(watched):
    found = []
    for side, watch in watched:
        task_id = f'long-{side.kind}'
        side.app.send_task('shop.sleeps', (task_id, 60), task_id=task_id)
        watch.until_told(task_id, 'task-started')
        side.app.control.revoke(task_id, terminate=True, signal='SIGKILL', destination=[NODE])
        events = watch.until_told(task_id, 'task-revoked')
        found.append([{**event, 'uuid': 'id'} for event in without_runs(events) if event['type'] == 'task-revoked'])
    assert found[0] == found[1], found


def test_messages_are_those_of_a_stock_worker(watched):
    found = []
    for side, watch in watched:
        marker = side.send('shop.add', 1, 1)
        watch.until_told(marker.id, 'task-succeeded')
        watch.until(lambda events: any(event['type'] == 'worker-heartbeat' for event in events), 'a heartbeat')
        of_key = {}
        for message in watch.messages:
            properties = {**message.properties, 'delivery_tag': None}
            of_key[message.routing_key] = (message.headers, properties, type(message.body))
        found.append(of_key)
    assert found[0] == found[1]
    assert set(found[1]) == {'task.multi', 'worker.online', 'worker.heartbeat'}


def test_clocks_go_on_and_times_are_in_their_order(watched):
    for side, watch in watched:
        marker = side.send('shop.add', 1, 1)
        events = watch.until_told(marker.id, 'task-succeeded')
        clocks = [event['clock'] for event in events]
        assert clocks == sorted(set(clocks)), clocks
        times = [event['timestamp'] for event in events]
        assert times == sorted(times), times


def test_a_node_tells_of_itself(watched):
    shown = []
    for side, watch in watched:
        is_beat = lambda event: event['type'] == 'worker-heartbeat' and event['processed'] > 0
        events = watch.until(lambda events: any(map(is_beat, events)), 'a heartbeat')
        online = next(event for event in events if event['type'] == 'worker-online')
        beat = next(event for event in events if is_beat(event))
        assert online.keys() == beat.keys()
        assert beat['pid'] == side.processes[0].pid
        same = ('hostname', 'utcoffset', 'freq', 'sw_ident', 'sw_ver', 'sw_sys')
        shown.append(({name: beat[name] for name in same}, sorted(beat), [type(value) for value in beat['loadavg']]))
    assert shown[0] == shown[1]


def test_events_of_tasks_are_switched_on_and_off(watched, alone):
    """By remote control, as Flower does it."""
    sides = [alone('stock'), alone('pool')]
    for side in sides:
        watch = Watch(side)
        try:
            side.start(workers=1)
            heard(side)
            answers = [ask(side, method)[NODE] for method in ('enable_events', 'enable_events')]
            marker = side.send('shop.add', 1, 1)
            watch.until_told(marker.id, 'task-succeeded')
            answers += [ask(side, method)[NODE] for method in ('disable_events', 'disable_events')]
            quiet = side.send('shop.add', 1, 1)
            until(quiet.ready, 'it ran')
            before = len(watch.messages)
            watch.until(lambda events: len(watch.messages) > before, 'the next heartbeat')
            assert by_task(watch.events()) == {marker.id: ['task-received', 'task-started', 'task-succeeded']}
            assert ask(side, 'heartbeat')[NODE] is None
            watch.until(lambda events: any(event['freq'] == 5 for event in events if 'freq' in event), 'the one asked for')
            (process,) = side.processes
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            watch.until(lambda events: events[-1]['type'] == 'worker-offline', 'the farewell')
            side.answers = answers
        finally:
            watch.close()
    assert sides[0].answers == sides[1].answers
    assert sides[1].answers == [
        {'ok': 'task events enabled'},
        {'ok': 'task events already enabled'},
        {'ok': 'task events disabled'},
        {'ok': 'task events already disabled'},
    ]


@pytest.mark.over('redis')
def test_without_heartbeats_and_keys_in_channels(alone):
    conf = {'broker_transport_options': {'fanout_patterns': False, 'global_keyprefix': 'mine:'}, 'event_exchange': 'ours'}
    side = alone('pool', conf)
    watch = Watch(side)
    try:
        side.start('--without-heartbeat', '-E', workers=1)
        marker = side.send('shop.add', 1, 1)
        events = watch.until_told(marker.id, 'task-succeeded')
        assert {event['type'].split('-')[0] for event in events} == {'task'}
    finally:
        watch.close()


def test_many_events_go_in_groups(watched):
    """Twenty-four in a message at most, and none is lost under load."""
    (_, _), (side, watch) = watched
    ids = [side.send('shop.quiet', 'many').id for _ in range(300)]
    is_told = lambda events: len({event['uuid'] for event in events if event['type'] == 'task-succeeded'} & set(ids)) == 300
    watch.until(is_told, 'all are told', 60)
    told = by_task(watch.events())
    # What goes back to its queue and comes again is received again.
    runs = {task_id: [kind for kind, _ in groupby(told[task_id])] for task_id in ids}
    assert all(run == ['task-received', 'task-started', 'task-succeeded'] for run in runs.values())
    assert max(len(listed(message.body)) for message in watch.messages) <= 24


def test_celery_s_own_monitor_understands_them(watched):
    """`celery.events.State`, on which Flower and `celery events` build."""
    for side, watch in watched:
        state = side.app.events.State()
        marker = side.send('shop.add', 2, 3)
        for event in [*watch.until_told(marker.id, 'task-succeeded'), *watch.events()]:
            state.event({**event, 'local_received': time.time()})
        task = state.tasks[marker.id]
        assert (task.state, task.result, task.name, task.worker.hostname) == ('SUCCESS', '5', 'shop.add', NODE)
        assert state.workers[NODE].processed > 0
