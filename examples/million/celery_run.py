"""The same jobs as tasks of Celery, added and fetched with Celery's own library. `run` starts it with the right interpreter
and path.

Starts servers of its own, adds the jobs, runs them on two nodes, fetches each result by its id and compares it.
Progress goes to standard error, the figures as one JSON object to standard output.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.rabbit import RabbitServer
from redis import Redis
from support import child
from support.places import control_socket
from support.server import RedisServer
from support.wait import until

import tasks

HERE = Path(__file__).resolve().parent
QUEUES = ['high', 'default', 'low']
NODES = {'one': ['high', 'default', 'low'], 'two': ['low', 'default', 'high']}
NUMBERS = 91  # the numbers asked for are below this, as in main.rs
CHUNK = 1000
FRAME = 0.5
#: Seconds without any new result: something is stuck.
STILL_MAX = 120


class Progress:
    """A line on standard error that counts to `jobs`; on a terminal it moves, else it is written once."""

    def __init__(self, jobs, what):
        self.jobs, self.what, self.done = jobs, what, 0
        self.began = self.shown = time.monotonic()

    def advance(self, by):
        self.show(self.done + by)

    def show(self, done):
        self.done = done
        now = time.monotonic()
        if sys.stderr.isatty() and now - self.shown >= FRAME / 5:
            self.shown = now
            print(f'\r{self.line()}', end='', file=sys.stderr, flush=True)

    def finish(self):
        print(f'\r{self.line()}' if sys.stderr.isatty() else self.line(), file=sys.stderr, flush=True)
        return time.monotonic() - self.began

    def line(self):
        seconds = max(time.monotonic() - self.began, 1e-9)
        return f'{self.what:9} {self.done:>9,} of {self.jobs:,} {seconds:6.1f} s {self.done / seconds:9,.0f}/s'


class Brokers:
    """Where the queues are, and a redis-server for the results."""

    def __init__(self, transport):
        self.redis = RedisServer()
        self.rabbit = RabbitServer() if transport == 'rabbitmq' else None
        url = self.redis.url.removesuffix('/0')
        os.environ['MILLION_BROKER'] = self.rabbit.url(self.rabbit.new_vhost()) if self.rabbit else f'{url}/0'
        os.environ['MILLION_RESULTS'] = f'{url}/1'

    def bytes(self):
        """What the servers occupy."""
        with self.redis.client() as client:
            used = client.info('memory')['used_memory']
        if self.rabbit:
            status = Path(f'/proc/{self.rabbit.process.pid}/status').read_text()
            used += 1024 * int(status.split('VmRSS:')[1].split()[0])
        return used

    def stop(self):
        self.redis.stop()
        if self.rabbit:
            self.rabbit.stop()


class Celery:
    """Two nodes, of Celery's own or of pool, in the place of the two supervisors."""

    def __init__(self, pool):
        self.pool = pool
        import celery_app

        self.app = celery_app
        self.results_of = Redis.from_url(os.environ['MILLION_RESULTS'])

    def enqueue(self, numbers, queue):
        with self.app.app.producer_pool.acquire(block=True) as producer:
            return [self.app.fib.apply_async((n,), queue=queue, producer=producer).id for n in numbers]

    def node(self, name, queues, workers):
        line = ['-A', 'celery_app', 'worker', '--loglevel', 'error', '-c', str(workers)]
        line += ['-n', f'{name}@%h', '-Q', ','.join(queues)]
        if self.pool is None:
            return [sys.executable, '-m', 'celery', *line]
        return [self.pool, 'celery', *line, '--python', sys.executable, '--socket', control_socket()]

    def run(self, workers, jobs):
        """From the first results on, so that the nodes' start does not count, until the last one."""
        environment = {**os.environ, 'PYTHONPATH': f'{HERE}:{os.environ["PYTHONPATH"]}', 'C_FORCE_ROOT': '1'}
        log = tempfile.TemporaryFile('a+b')
        running = [
            child.start(self.node(name, queues, workers), env=environment, stdout=log, stderr=subprocess.STDOUT)
            for name, queues in NODES.items()
        ]
        try:
            until(lambda: self.results_of.dbsize() > 0, 'the first tasks end', 60)
            bar, before, still_since = Progress(jobs, 'ended'), self.results_of.dbsize(), time.monotonic()
            while (done := self.results_of.dbsize()) < jobs:
                if done > bar.done:
                    still_since = time.monotonic()
                if time.monotonic() - still_since > STILL_MAX:
                    raise SystemExit(f'error: {done} of {jobs} results are there after {STILL_MAX} s without a new one')
                bar.show(done)
                time.sleep(0.05)
            bar.show(jobs)
            return bar.finish() * jobs / max(jobs - before, 1)
        except BaseException:
            log.seek(0)
            print(log.read().decode(errors='replace'), file=sys.stderr)
            raise
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(60)

    def results(self, ids):
        for id in ids:
            yield id, self.app.fib.AsyncResult(id).result


def enqueue(celery, jobs):
    """The nth job asks for the Fibonacci number of `n % NUMBERS` and goes to the next queue."""
    bar, ids = Progress(jobs, 'enqueued'), [None] * jobs
    for first in range(0, jobs, CHUNK * len(QUEUES)):
        last = min(jobs, first + CHUNK * len(QUEUES))
        for at, queue in enumerate(QUEUES, first):
            places = range(at, last, len(QUEUES))
            added = celery.enqueue([n % NUMBERS for n in places], queue)
            for place, id in zip(places, added, strict=True):
                ids[place] = id
        bar.advance(last - first)
    return ids, bar.finish()


def verify(celery, ids):
    bar = Progress(len(ids), 'verified')
    expected = [tasks.fib(n) for n in range(NUMBERS)]
    for first in range(0, len(ids), CHUNK):
        for n, (id, result) in enumerate(celery.results(ids[first : first + CHUNK]), first):
            if result != expected[n % NUMBERS]:
                raise SystemExit(f'error: job {id} should have the result {expected[n % NUMBERS]}: {result!r}')
        bar.advance(min(CHUNK, len(ids) - first))
    return bar.finish()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('jobs', type=int)
    parser.add_argument('workers', type=int, help='of each node')
    parser.add_argument('transport', choices=['redis', 'rabbitmq'])
    parser.add_argument('--pool', help='the program; without it Celery runs the tasks')
    options = parser.parse_args()
    brokers = Brokers(options.transport)
    try:
        celery = Celery(options.pool)
        ids, enqueue_s = enqueue(celery, options.jobs)
        run_s = celery.run(options.workers, options.jobs)
        broker_bytes = brokers.bytes()
        fetch_s = verify(celery, ids)
    finally:
        brokers.stop()
    figures = {'enqueue_s': enqueue_s, 'run_s': run_s, 'fetch_s': fetch_s, 'broker_bytes': broker_bytes}
    print(json.dumps({'jobs': options.jobs, **figures}))


if __name__ == '__main__':
    main()
