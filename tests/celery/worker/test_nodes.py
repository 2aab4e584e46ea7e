"""Several pools that are one node, and several nodes on the same queues."""

import collections

from support.wait import until
from worker.sides import POOL
from worker.test_control import HOST, NODE, ask, heard

TWO_POOLS = """
[app]
runtime = "celery"
python = "{python}"
[celery]
app = "shop"
[pools.fast]
queues = ["celery"]
min_workers = 1
max_workers = 1
[pools.slow]
queues = ["mail"]
min_workers = 2
max_workers = 2
"""


def test_the_pools_of_a_supervisor_are_one_node(alone, tmp_path):
    side = alone('pool')
    file = tmp_path / 'pool.toml'
    file.write_text(TWO_POOLS.format(python=side.python()))
    side.spawn([POOL, 'run', '--config', str(file), '--socket', str(tmp_path / 's')])
    of_fast = [side.send('shop.pid') for _ in range(4)]
    of_slow = [side.send('shop.pid', queue='mail') for _ in range(4)]
    fast = {result.get(timeout=60) for result in of_fast}
    slow = {result.get(timeout=60) for result in of_slow}
    assert len(fast) == 1 and not fast & slow, 'each queue has the workers of its pool'
    heard(side)
    assert ask(side, 'ping', node=None) == {NODE: {'ok': 'pong'}}
    assert {queue['name'] for queue in ask(side, 'active_queues')[NODE]} == {'celery', 'mail'}
    pool = ask(side, 'stats')[NODE]['pool']
    assert pool['max-concurrency'] == 3 and fast | slow <= set(pool['processes'])


def test_nodes_share_their_queues(alone):
    """Each message is run by one of them, and remote control reaches the one that is meant."""
    first, second = alone('pool'), alone('pool')
    second.serve_as(first)
    first.start('-n', 'first@%h')
    second.start('-n', 'second@%h')
    names = [f'first@{HOST}', f'second@{HOST}']
    until(lambda: sorted(ask(first, 'ping', node=None)) == names, 'both answer')
    sent = [first.send('shop.sleeps_late', f'task {n}', 0.05) for n in range(60)]
    assert [result.get(timeout=60) for result in sent] == [f'task {n}' for n in range(60)]
    runs = collections.Counter(first.runs(f'task {n}') for n in range(60))
    assert runs == {1: 60}, runs
    done = [sum(ask(first, 'stats', node=name)[name]['total'].values()) for name in names]
    assert sum(done) == 62 and min(done) > 10, done
    first.app.control.shutdown(destination=names[:1])
    assert first.processes[0].wait(60) == 0
    assert sorted(ask(first, 'ping', node=None)) == names[1:]
    assert first.send('shop.add', 1, 2).get(timeout=30) == 3
