"""What RQ's jobs of several kinds cost: `scripts/bench rq kinds`."""

import math
import time

from rq import Callback, Queue, Repeat
from rq.rate_limit import RateLimit
from support.wait import until

import probe
from measures import WARM_UP_SHARE, of_each, progress, working

RUNS = 5  # of a job that repeats


class Kind:
    """Jobs of one kind on the queue `bench`."""

    def __init__(self, function='rq_tasks.noop', **options):
        self.function = function
        self.options = options

    def send(self, redis, runs):
        """Enqueues jobs that come to so many runs."""
        queue = Queue('bench', connection=redis)
        for _ in range(math.ceil(runs / (RUNS if 'repeat' in self.options else 1))):
            queue.enqueue(self.function, result_ttl=3600, **self.options)

    def command(self, command):
        """What runs them, from what runs any."""
        return command


class Django(Kind):
    """Tasks of `django_tasks_rq`."""

    def __init__(self, **environment):
        super().__init__()
        self.environment = [f'{name}={value}' for name, value in environment.items()]

    def send(self, redis, runs):
        import rq_django  # which reads the address of the server as it is imported

        for _ in range(runs):
            rq_django.noop.enqueue()

    def command(self, command):
        return ['env', *self.environment, *command, '--job-class', 'rq_django.Job']


TOLD = {'on_success': Callback('rq_kinds.told'), 'on_failure': Callback('rq_kinds.told')}
KINDS = {
    'plain': Kind(),
    'success callback': Kind(**TOLD),
    'failure callback': Kind('rq_kinds.fail', **TOLD),
    f'Repeat, {RUNS} runs': Kind(repeat=Repeat(RUNS - 1)),
    'RateLimit': Kind(rate_limit=RateLimit('bench', 1_000)),
    'Django task': Django(),
    'Django task, logged': Django(BENCH_DJANGO_LOGS='1'),
}


class Side:
    """A peer and jobs of one kind."""

    def __init__(self, peer, name):
        self.peer = peer
        self.kind = KINDS[name]
        self.name = f'{name}: {peer.name}'
        self.jobs = min(peer.jobs, 20_000 if name == 'plain' else 6_000)

    def connect(self, url):
        self.peer.connect(url)
        self.redis = self.peer.redis

    def send(self, runs):
        self.kind.send(self.redis, runs)

    def commands(self, url, workers, preload):
        return [self.kind.command(command) for command in self.peer.commands(url, workers, preload)]

    def done(self):
        """Runs that ended, as the workers count them."""
        with self.redis.pipeline(transaction=False) as asked:
            for worker in self.redis.smembers('rq:workers'):
                asked.hmget(worker, 'successful_job_count', 'failed_job_count')
            return sum(int(count or 0) for counts in asked.execute() for count in counts)


def pool_of(name):
    """The row of pool with jobs of the same kind."""
    return f'{name.split(":")[0]}: pool'


def kinds(chosen, server, options):
    """Jobs a second of each kind, and what each asks of Redis."""
    return of_each(ran)([Side(peer, name) for name in KINDS for peer in chosen], server, options)


def ran(side, server, options):
    """Once a tenth of so many runs have ended. What the counting asks is left out: it takes two round trips a look."""
    runs = options.jobs or side.jobs
    with working(side, server, options.workers, jobs=(runs,)), server.client() as client:
        until(lambda: side.done() >= runs * WARM_UP_SHARE, f'{side.name} works', 300)
        begin, before, asked = time.monotonic(), side.done(), Asked(client)
        looks = progress(side, runs)
        seconds, done, asked = time.monotonic() - begin, side.done() - before, Asked(client).since(asked)
    if not done:
        raise SystemExit(f'error: {side.name} had done all {runs} runs at the first look; give it more with --jobs')
    return {
        'jobs/s': done / seconds,
        'round trips/job': (asked.trips - 2 * looks) / done,
        'Redis commands/job': (asked.commands - (1 + options.workers) * looks) / done,
    }


class Asked:
    """What a server was asked so far, scripts' own commands included."""

    def __init__(self, client):
        self.commands, _ = probe.redis_use(client)
        self.trips = client.info('stats')['total_reads_processed']

    def since(self, before):
        self.commands -= before.commands
        self.trips -= before.trips
        return self
