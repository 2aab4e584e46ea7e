"""Measures waiting: what a client asks of Redis while ten jobs run, and while nothing happens at all."""

import subprocess
import sys
import time
from pathlib import Path

from redis import Redis
from rq import Queue
from rq.job import Job

from peers import POOL
from support import child
from support.monitor import Monitor, addresses_of
from support.wait import until

SUBTASKS = 10
HERE = Path(__file__).resolve().parent


class Client:
    """A way to wait for jobs; `commands` runs it in a process of its own."""

    def __init__(self, commands, enqueue, last_end):
        self.commands = commands
        self.enqueue = enqueue
        self.last_end = last_end


def pool_wait(url, ids):
    """Its line about the last job comes when the wait is over; `date` says when."""
    line = f'"{POOL}" wait --broker "{url}" "$@" >&2; exec date +%s.%N'
    return ['env', 'POOL_RUNTIME=rq', 'XDG_RUNTIME_DIR=/tmp', 'bash', '-c', line, 'wait', *ids]


def waiter(kind):
    return lambda url, ids: [sys.executable, str(HERE / 'waiter.py'), kind, *ids]


def enqueue_rq(url, seconds):
    queue = Queue('bench', connection=Redis.from_url(url, socket_timeout=None))
    return [job.id for job in queue.enqueue_many([Queue.prepare_data('rq_tasks.rest', (seconds,))] * SUBTASKS)]


def last_end_of_rq(url, ids):
    jobs = Job.fetch_many(ids, connection=Redis.from_url(url, socket_timeout=None))
    return max(job.ended_at.timestamp() for job in jobs)


def enqueue_celery(url, seconds):
    from celery_tasks import rest

    return [rest.delay(seconds).id for _ in range(SUBTASKS)]


def last_end_of_celery(url, ids):
    from celery.result import AsyncResult
    from celery_tasks import app

    return max(AsyncResult(id, app=app).date_done.timestamp() for id in ids)


#: By the peer whose workers run the jobs.
CLIENTS = {
    'pool': Client(pool_wait, enqueue_rq, last_end_of_rq),
    'rq worker-pool': Client(waiter('polling'), enqueue_rq, last_end_of_rq),
    'rq worker-pool, SimpleWorker': Client(waiter('latest_result'), enqueue_rq, last_end_of_rq),
    'celery': Client(waiter('celery'), enqueue_celery, last_end_of_celery),
}


def fan_out(peer, server):
    """Ten jobs of two seconds, and one client that waits for all of them."""
    client = CLIENTS[peer.name]
    peer.ask('rq_tasks', 'now')
    ids = client.enqueue(server.url, 2)
    with Monitor(server) as monitor:
        waiting = child.start(client.commands(server.url, ids), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        addresses = set()

        def ended():
            addresses.update(connections_of(waiting.pid))
            return waiting.poll() is not None

        until(ended, 'the wait is over', 120)
        over = float(waiting.stdout.read())
        asked = sum(address in addresses for address, _ in monitor.commands())
    return {'commands of the waiting client': asked, 'ms after the last end': (over - client.last_end(server.url, ids)) * 1000}


def idle_client(server, seconds):
    """Commands in so many seconds of a `pool wait` whose job nobody runs."""
    [*ids] = enqueue_rq(server.url, 2)
    waiting = child.start(pool_wait(server.url, ids), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with server.client() as client:
            sleeps = lambda one: one['cmd'] == 'xread' and 'b' in one['flags']  # noqa: E731
            until(lambda: any(map(sleeps, client.client_list())), 'it sleeps')
        with Monitor(server) as monitor:
            time.sleep(seconds)
            addresses = connections_of(waiting.pid)
            return [command for address, command in monitor.commands() if address in addresses]
    finally:
        waiting.kill()
        waiting.wait()


def connections_of(root):
    """From where a process and those below it are connected."""
    from probe import tree

    found = set()
    for pid in tree([root]):
        try:
            found |= addresses_of(pid)
        except OSError:
            pass  # it has ended
    return found
