"""The same jobs with Celery, prefork: `celery_run.py JOBS WORKERS`, started by `run` with the right interpreter and path.

Starts a redis-server of its own, adds the jobs, runs them on two nodes, fetches each result by its id and compares it.
Progress goes to standard error, the figures as one JSON object to standard output.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from redis import Redis
from support import child
from support.server import RedisServer
from support.wait import until

import tasks

HERE = Path(__file__).resolve().parent
QUEUES = ['high', 'default', 'low']
NODES = {'one': ['high', 'default', 'low'], 'two': ['low', 'default', 'high']}
NUMBERS = 91  # the numbers asked for are below this, as in main.rs
CHUNK = 1000
FRAME = 0.5


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


class Celery:
    """Two nodes in the place of the two supervisors."""

    def __init__(self, server):
        url = os.environ['MILLION_REDIS'] = server.url.removesuffix('/0')
        import celery_app

        self.app = celery_app
        self.results_of = Redis.from_url(f'{url}/1')

    def enqueue(self, numbers, queue):
        with self.app.app.producer_pool.acquire(block=True) as producer:
            return [self.app.fib.apply_async((n,), queue=queue, producer=producer).id for n in numbers]

    def run(self, workers, jobs):
        """From the first results on, so that the nodes' start does not count, until the last one."""
        command = [str(Path(sys.executable).parent / 'celery'), '-A', 'celery_app', 'worker', '--loglevel', 'error']
        environment = {**os.environ, 'PYTHONPATH': f'{HERE}:{os.environ["PYTHONPATH"]}'}
        log = tempfile.TemporaryFile()
        running = [
            child.start([*command, '-c', str(workers), '-n', f'{name}@%h', '-Q', ','.join(queues)], env=environment,
                        stdout=log, stderr=subprocess.STDOUT)
            for name, queues in NODES.items()
        ]
        try:
            until(lambda: self.results_of.dbsize() > 0, 'Celery works', 60)
            bar, before = Progress(jobs, 'ended'), self.results_of.dbsize()
            while (done := self.results_of.dbsize()) < jobs:
                bar.show(done)
                time.sleep(0.05)
            bar.show(jobs)
            return bar.finish() * jobs / (jobs - before)
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
    jobs, workers = int(sys.argv[1]), int(sys.argv[2])
    server = RedisServer()
    try:
        celery = Celery(server)
        ids, enqueue_s = enqueue(celery, jobs)
        run_s = celery.run(workers, jobs)
        with server.client() as client:
            broker_bytes = client.info('memory')['used_memory']
        fetch_s = verify(celery, ids)
    finally:
        server.stop()
    figures = {'jobs': jobs, 'enqueue_s': enqueue_s, 'run_s': run_s, 'fetch_s': fetch_s, 'broker_bytes': broker_bytes}
    print(json.dumps(figures))


if __name__ == '__main__':
    main()
