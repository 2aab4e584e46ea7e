"""The million on Redis: `on_redis.py rq|celery JOBS WORKERS`; `run` starts it with the right interpreter and path.

Starts a redis-server of its own, adds the jobs with the library that users add them with, runs them on two supervisors
(rq: `pool --runtime rq`, named by POOL_BIN; celery: two nodes), fetches each result by its id and compares it. Progress
goes to standard error, the figures as one JSON object to standard output.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from support import child
from support.server import RedisServer
from support.wait import until

import tasks

HERE = Path(__file__).resolve().parent
QUEUES = ['high', 'default', 'low']
SUPERVISORS = {'one': ['high', 'default', 'low'], 'two': ['low', 'default', 'high']}
NUMBERS = 91  # the numbers asked for are below this, as in main.rs
CHUNK = 1000
RESULT_TTL = 24 * 3600  # RQ's 500 s would be over before all are fetched
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


class Rq:
    """RQ's producers and readers, and pool's workers in the place of RQ's."""

    def __init__(self, server):
        self.server = server
        self.redis = server.client()

    def enqueue(self, numbers, queue):
        from rq import Queue

        to = Queue(queue, connection=self.redis)
        data = [Queue.prepare_data('tasks.fib', args=(n,), result_ttl=RESULT_TTL) for n in numbers]
        return [job.id for job in to.enqueue_many(data)]

    def run(self, workers, jobs):
        """Two bursts; their whole time, from start to exit."""
        bar = Progress(jobs, 'begun')
        running = [self.supervise(name, queues, workers) for name, queues in SUPERVISORS.items()]
        ended = threading.Event()
        watch = threading.Thread(target=self.watch, args=(bar, ended))
        watch.start()
        statuses = [process.wait() for process in running]
        ended.set()
        watch.join()
        if any(statuses):
            raise SystemExit(f'error: the supervisors ended with {statuses}')
        bar.show(jobs)
        return bar.finish()

    def supervise(self, name, queues, workers):
        size = ['--min-workers', str(workers), '--max-workers', str(workers)]
        options = ['--name', name, '--queue', ','.join(queues), '--log-level', 'warn']
        where = ['--broker', self.server.url, '--socket', f'{self.server.directory.name}/{name}.sock']
        app = ['--runtime', 'rq', '--python', sys.executable, '--path', str(HERE), '--preload', 'tasks']
        return child.start([os.environ['POOL_BIN'], 'run', '--burst', *where, *app, *size, *options])

    def watch(self, bar, ended):
        """Shows how many jobs no longer wait."""
        while not ended.wait(FRAME):
            bar.show(bar.jobs - sum(self.redis.llen(f'rq:queue:{queue}') for queue in QUEUES))

    def results(self, ids):
        from rq.results import Result

        pipeline = self.redis.pipeline(transaction=False)
        for id in ids:
            pipeline.xrevrange(Result.get_key(id), '+', '-', count=1)
        for id, entries in zip(ids, pipeline.execute(), strict=True):
            if not entries:
                yield id, None
                continue
            entry, payload = entries[0]
            result = Result.restore(id, entry.decode(), payload, connection=self.redis)
            yield id, result.return_value if result.type == Result.Type.SUCCESSFUL else result.exc_string


class Celery:
    """Celery, prefork: two nodes in the place of the two supervisors."""

    def __init__(self, server):
        os.environ['MILLION_REDIS'] = server.url.removesuffix('/0')
        import celery_app

        self.app = celery_app
        self.results_of = server.client().__class__.from_url(server.url.removesuffix('/0') + '/1')

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
            for name, queues in SUPERVISORS.items()
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


def enqueue(runner, jobs):
    """The nth job asks for the Fibonacci number of `n % NUMBERS` and goes to the next queue."""
    bar, ids = Progress(jobs, 'enqueued'), [None] * jobs
    for first in range(0, jobs, CHUNK * len(QUEUES)):
        last = min(jobs, first + CHUNK * len(QUEUES))
        for at, queue in enumerate(QUEUES, first):
            places = range(at, last, len(QUEUES))
            added = runner.enqueue([n % NUMBERS for n in places], queue)
            for place, id in zip(places, added, strict=True):
                ids[place] = id
        bar.advance(last - first)
    return ids, bar.finish()


def verify(runner, ids):
    bar = Progress(len(ids), 'verified')
    expected = [tasks.fib(n) for n in range(NUMBERS)]
    for first in range(0, len(ids), CHUNK):
        for n, (id, result) in enumerate(runner.results(ids[first : first + CHUNK]), first):
            if result != expected[n % NUMBERS]:
                raise SystemExit(f'error: job {id} should have the result {expected[n % NUMBERS]}: {result!r}')
        bar.advance(min(CHUNK, len(ids) - first))
    return bar.finish()


def main():
    case, jobs, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    server = RedisServer()
    try:
        runner = {'rq': Rq, 'celery': Celery}[case](server)
        ids, enqueue_s = enqueue(runner, jobs)
        run_s = runner.run(workers, jobs)
        with server.client() as client:
            broker_bytes = client.info('memory')['used_memory']
        fetch_s = verify(runner, ids)
    finally:
        server.stop()
    figures = {'jobs': jobs, 'enqueue_s': enqueue_s, 'run_s': run_s, 'fetch_s': fetch_s, 'broker_bytes': broker_bytes}
    print(json.dumps(figures))


if __name__ == '__main__':
    main()
