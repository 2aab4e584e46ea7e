"""A burst on a pool that grows: `scripts/bench pool burst` does the same on the embedded broker."""

import json
import os
import subprocess
import time

from support.wait import until

from measures import working
from peers import POOL, SOCKETS

JOBS = 200
SECONDS = 0.5
SIZES = (2, 24)


def burst(peer, server, options):
    """Seconds until all workers took jobs, until all jobs had ended, and from then until the fewest workers were left."""
    os.environ['POOL_POLICY'] = 'demand'
    with working(peer, server, SIZES):
        pool = Status(SOCKETS[-1])
        until(lambda: pool.taking() == SIZES[0], f'{peer.name} has {SIZES[0]} workers', 60)
        began = time.monotonic()
        peer.send('rq_tasks', 'rest', [(SECONDS,)] * JOBS)
        sent = time.monotonic() - began
        until(lambda: pool.taking() == SIZES[1], f'{peer.name} has {SIZES[1]} workers', 60)
        grown = time.monotonic() - began
        until(lambda: peer.done() >= JOBS, f'{peer.name} does all jobs', 120)
        done = time.monotonic() - began
        until(lambda: pool.workers() == SIZES[0], f'{peer.name} has {SIZES[0]} workers again', 120)
        shrunk = time.monotonic() - began - done
    return {
        f's until {SIZES[1]} workers': grown,
        'enqueued within': sent,
        'all done': done,
        f'then {SIZES[0]} workers after': shrunk,
    }


class Status:
    """What a supervisor tells of its pool."""

    def __init__(self, socket):
        self.command = [POOL, 'status', '--json', '--socket', socket]

    def workers(self):
        return self.ask().get('workers')

    def taking(self):
        """Workers that take jobs."""
        return sum(worker['state'] in ('idle', 'busy') for worker in self.ask().get('processes', []))

    def ask(self):
        answer = subprocess.run(self.command, capture_output=True, text=True)
        return json.loads(answer.stdout)['pools']['default'] if answer.returncode == 0 else {}
