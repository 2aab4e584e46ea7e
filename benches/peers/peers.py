"""The worker pools that are measured, each behind the same few verbs.

`Peer.commands` starts its workers; `send` enqueues many jobs; `ask` enqueues one and waits for its result, which it
returns with the time at which enqueue had returned; `done` counts results. `jobs` is how many no-op jobs it does in some seconds.
A pool may be told the fewest and the most workers in place of their number.
"""

import atexit
import importlib
import json
import os
import sys
import tempfile
import time
import uuid
from pathlib import Path

from harness.rabbit import RabbitServer
from kombu import Connection
from redis import Redis
from rq import Queue
from support.places import control_socket

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]
#: Control sockets of the supervisors, the newest last.
SOCKETS = []
POOL = os.environ.get('POOL_BIN', f'{ROOT}/target/release/pool')


def new_socket():
    SOCKETS.append(control_socket())
    return SOCKETS[-1]


class Peer:
    """What all have."""

    def brokers(self):
        """Processes of a broker other than Redis."""
        return []


class Rq(Peer):
    """Workers on RQ's queues; `command` is what differs between them."""

    def __init__(self, name, jobs, command):
        self.name = name
        self.jobs = jobs
        self.command = command

    def commands(self, url, workers, preload):
        return self.command(url, workers, preload)

    def connect(self, url):
        self.redis = Redis.from_url(url, socket_timeout=None)
        self.queue = Queue('bench', connection=self.redis)

    def send(self, module, function, arguments):
        for start in range(0, len(arguments), 1000):
            part = arguments[start : start + 1000]
            data = [Queue.prepare_data(f'{module}.{function}', args=args, result_ttl=3600) for args in part]
            self.queue.enqueue_many(data)

    def ask(self, module, function):
        job = self.queue.enqueue(f'{module}.{function}')
        enqueued = time.monotonic_ns()
        return job.latest_result(timeout=60).return_value, enqueued

    def done(self):
        return self.redis.zcard('rq:finished:bench')


class Framework(Peer):
    """A peer with queues of its own; `module` is its application."""

    def __init__(self, name, jobs, suffix, command, done, send, enqueue, wait):
        self.name = name
        self.jobs = jobs
        self.suffix = suffix
        self.command = command
        self.count = done
        self.send_one = send
        self.enqueue_one = enqueue
        self.wait = wait

    def commands(self, url, workers, preload):
        module = f'{preload}_{self.suffix}' if preload else f'{self.suffix}_tasks'
        return [self.command(module, workers)]

    def connect(self, url):
        self.redis = Redis.from_url(url, socket_timeout=None)
        self.results = Redis.from_url(url.replace('/0', '/1'), socket_timeout=None)

    def task(self, module, function):
        name = f'{module}_{self.suffix}' if module != 'rq_tasks' else f'{self.suffix}_tasks'
        return getattr(importlib.import_module(name), function)

    def send(self, module, function, arguments):
        self.send_each(self.task(module, function), arguments)

    def send_each(self, task, arguments):
        for args in arguments:
            self.send_one(task, args)

    def ask(self, module, function):
        pending = self.enqueue_one(self.task(module, function))
        enqueued = time.monotonic_ns()
        return self.wait(pending), enqueued

    def done(self):
        return self.count(self)


class Celery(Framework):
    """Tasks of Celery; those that keep no result are counted by what is left of the messages."""

    def __init__(self, name, jobs, command, ignores_results=False):
        super().__init__(
            name,
            jobs,
            'celery',
            command,
            done=lambda peer: peer.sent - peer.left() if ignores_results else peer.results.dbsize(),
            send=lambda task, args: task.apply_async(args),
            enqueue=lambda task: task.delay(),
            wait=lambda pending: pending.get(timeout=60),
        )
        self.ignores_results = ignores_results
        self.sent = 0

    def send(self, module, function, arguments):
        if any(arguments):
            super().send(module, function, arguments)
        else:
            chosen = f'{function}_ignored' if self.ignores_results else function
            self.send_copies(self.task(module, chosen), len(arguments))
        self.sent = len(arguments)

    def send_copies(self, task, count):
        """Of one message, each with ids of its own: Celery's clients send a thousand a second. No worker runs yet."""
        first = task.delay().id
        message = self.redis.rpop('celery').decode()
        tag = json.loads(message)['properties']['delivery_tag']
        for start in range(0, count, 1000):
            ids = [str(uuid.uuid4()) for _ in range(min(1000, count - start))]
            self.redis.lpush('celery', *(message.replace(first, new).replace(tag, f'tag-{new}') for new in ids))

    def left(self):
        """Messages that wait, and those that no worker has acknowledged yet."""
        with self.redis.pipeline(transaction=False) as asked:
            return sum(asked.llen('celery').hlen('unacked').execute())


class CeleryOverRabbit(Celery):
    """Tasks of Celery that wait in RabbitMQ; their results are in Redis."""

    server = None

    def connect(self, url):
        super().connect(url)
        if CeleryOverRabbit.server is None:
            CeleryOverRabbit.server = RabbitServer()
            atexit.register(self.server.stop)
        self.broker = self.server.url(self.server.new_vhost())

    def commands(self, url, workers, preload):
        return [['env', f'BENCH_BROKER={self.broker}', *command] for command in super().commands(url, workers, preload)]

    def brokers(self):
        return [self.server.process.pid]

    def send_each(self, task, arguments):
        with Connection(self.broker) as connection:
            for args in arguments:
                task.apply_async(args, connection=connection)

    def send_copies(self, task, count):
        with Connection(self.broker) as connection:
            channel = connection.default_channel
            task.apply_async(connection=connection)
            message = channel.basic_get('celery', no_ack=True)
            kept = {name: message.properties[name] for name in ('delivery_mode', 'reply_to')}
            for number in range(1, count + 1):
                new = str(uuid.uuid4())
                headers = {**message.headers, 'id': new, 'root_id': new}
                properties = {**kept, 'correlation_id': new}
                copy = channel.prepare_message(message.body, 0, 'application/json', 'utf-8', headers, properties)
                channel.basic_publish(copy, exchange='', routing_key='celery')
                if number % 1000 == 0 or number == count:
                    # Answered once the server has all before it: what it holds up is lost with the connection.
                    channel.queue_declare('celery', passive=True)

    def left(self):
        return sum(map(sum, self.server.queues(self.broker.rsplit('/', 1)[1]).values()))


def worker_pool(plain, preloaded):
    """`rq worker-pool`; with a preload its worker class is of that module, so that it is loaded before a fork."""

    def command(url, workers, preload):
        chosen = f'{preload}.{preloaded}' if preload else plain
        return [[f'{BIN}/rq', 'worker-pool', '--url', url, '-n', str(workers), '--worker-class', chosen, 'bench']]

    return command


def separate_workers(url, workers, preload):
    """As many `rq worker` as RQ's documentation tells its users to start."""
    chosen = f'{preload}.Forking' if preload else 'rq.Worker'
    return [[f'{BIN}/rq', 'worker', '--url', url, '--worker-class', chosen, 'bench'] for _ in range(workers)]


def pool(isolation, immortal=True):
    """The product; POOL_BIN names the binary, a release build by default."""

    def command(url, workers, preload):
        config = tempfile.NamedTemporaryFile('w', suffix='.toml', delete=False)
        hooks = ['mapped.preload'] if preload == 'mapped' else []
        config.write(f'[app]\nisolation = "{isolation}"\nimmortal = {str(immortal).lower()}\nbefore_fork = {hooks}\n')
        config.close()
        low, high = workers if isinstance(workers, tuple) else (workers, workers)
        size = ['--min-workers', str(low), '--max-workers', str(high)]
        loaded = ['--preload', preload or 'rq_tasks']
        where = ['--broker', url, '--queue', 'bench', '--socket', new_socket()]
        python = ['--runtime', 'rq', '--python', sys.executable]
        return [[POOL, 'run', '--config', config.name, *where, *python, *size, *loaded]]

    return command


def celery(module, workers):
    return [f'{BIN}/celery', '-A', f'{module}:app', 'worker', '-c', str(workers), '--loglevel', 'warning']


def pool_celery(module, workers):
    """The product in place of Celery's worker."""
    size = ['--autoscale', f'{workers[1]},{workers[0]}'] if isinstance(workers, tuple) else ['-c', str(workers)]
    options = [*size, '--python', sys.executable, '--socket', new_socket()]
    return [POOL, 'celery', '-A', f'{module}:app', 'worker', *options]


def dramatiq(module, workers):
    prefetch = ['env', 'dramatiq_queue_prefetch=64']  # its fastest; the default is twice its threads
    return [*prefetch, f'{BIN}/dramatiq', module, '--processes', str(workers), '--threads', '1']


def huey(module, workers):
    return [f'{BIN}/huey_consumer', f'{module}.huey', '-w', str(workers), '-k', 'process']


PEERS = {
    peer.name: peer
    for peer in [
        Rq('pool', 100_000, pool('warm')),
        Rq('pool, immortal off', 100_000, pool('warm', immortal=False)),
        Rq('pool fresh', 6_000, pool('fresh')),
        Rq('rq worker-pool', 800, worker_pool('rq.Worker', 'Forking')),
        Rq('rq worker-pool, SimpleWorker', 3_000, worker_pool('rq.SimpleWorker', 'Simple')),
        Rq('rq worker-pool, mappers configured', 1_000, worker_pool('rq.Worker', 'Configured')),
        Rq('rq worker-pool, app imported', 100, worker_pool('rq.Worker', 'Imported')),
        Rq('rq worker, separate', 800, separate_workers),
        Celery('celery', 5_000, celery),
        Framework(
            'dramatiq, prefetch 64',
            20_000,
            'dramatiq',
            dramatiq,
            done=lambda peer: peer.results.dbsize(),
            send=lambda task, args: task.send(*args),
            enqueue=lambda task: task.send(),
            wait=lambda pending: pending.get_result(block=True, timeout=60_000),
        ),
        Framework(
            'huey',
            5_000,
            'huey',
            huey,
            done=lambda peer: peer.redis.hlen('huey.results.bench'),
            send=lambda task, args: task(*args),
            enqueue=lambda task: task(),
            wait=lambda pending: pending.get(blocking=True, timeout=60),
        ),
    ]
}
