"""The application whose jobs the suite runs: importable by the worker under test and by the tests."""

import asyncio
import json
import logging
import os
import random
import signal
import sys
import time

from redis import Redis
from rq import Retry, get_current_job


def redis():
    """A connection of the job's own, whatever the worker does for its."""
    return Redis.from_url(os.environ['SUITE_REDIS_URL'], socket_timeout=None)


def add(a, b=0):
    return a + b


def nothing():
    return None


def fail(message='no luck'):
    raise ValueError(message)


def fail_until(key, run):
    """Raises until it has run `run` times."""
    if redis().incr(key) < run:
        raise ValueError('not yet')
    return 'at last'


def note(tag, result=None):
    """Appends `tag` to the list `notes`."""
    redis().rpush('notes', tag)
    return result


def note_and_fail(tag):
    note(tag)
    raise ValueError(tag)


def hold(gate='gate', result='released', entered='entered'):
    """Says that it runs, and runs until somebody pushes to `gate`."""
    connection = redis()
    connection.rpush(entered, os.getpid())
    connection.blpop([gate], timeout=60)
    return result


def hold_or_note(tag=None):
    """Notes its tag; without one, it holds."""
    return note(tag) if tag else hold()


def hold_and_fail(gate='gate'):
    hold(gate)
    raise ValueError('released')


def hold_deaf(gate='gate'):
    """As `hold`, out of reach of its timeout."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    end = time.monotonic() + 300
    while time.monotonic() < end:
        time.sleep(1)


def die(number=signal.SIGKILL):
    os.kill(os.getpid(), number)


def end_supervisor():
    """Takes the supervisor of its pool down: the parent of the template, which is the parent of its worker."""
    redis().rpush('entered', os.getpid())
    status = open(f'/proc/{os.getppid()}/stat').read()
    os.kill(int(status.rsplit(')', 1)[1].split()[1]), signal.SIGKILL)
    time.sleep(60)


def leave(status):
    os._exit(status)


def overrun():
    """Longer than any timeout of the suite."""
    time.sleep(60)


def overrun_and_tidy():
    """Notices its timeout and cleans up."""
    try:
        time.sleep(60)
    finally:
        note('tidied')


def meet(name):
    """Waits a moment for others of this name, and returns how many ran at once."""
    running = redis().incr(name)
    end = time.monotonic() + 0.5
    while running < 2 and time.monotonic() < end:
        time.sleep(0.01)
        running = int(redis().get(name))
    time.sleep(0.05)
    running = max(running, int(redis().get(name)))
    redis().decr(name)
    return running


def who():
    """What a job can know of itself."""
    job = get_current_job()
    return {
        'id': job.id,
        'origin': job.origin,
        'func': job.func_name,
        'args': list(job.args),
        'status': str(job.get_status().value),
        'worker': job.worker_name,
        'env': [os.environ.get('RQ_WORKER_ID'), os.environ.get('RQ_JOB_ID')],
        'leader': os.getpgid(0) == os.getpid(),
        'group_of_parent': os.getpgid(os.getppid()) == os.getpgid(0),
    }


def signals():
    """How this process takes the signals that RQ sets."""
    return [
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
        signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
    ]


def luck():
    return random.random()


def save_meta(**values):
    job = get_current_job()
    job.meta.update(values)
    job.save_meta()
    return job.get_meta()


def save_meta_and_fail(**values):
    save_meta(**values)
    raise ValueError('after meta')


def enqueue_child():
    """A job that enqueues another, by the connection of its own job."""
    from rq import Queue

    job = get_current_job()
    return Queue(connection=job.connection).enqueue(add, 1, 1, job_id=f'{job.id}-child').id


def ask_retry(maximum, interval=0, at_front=False):
    """Always asks to be run again."""
    note('asked')
    return Retry(max=maximum, interval=interval, enqueue_at_front=at_front)


def unpicklable():
    return lambda: None


def big(size):
    return 'x' * size


async def add_later(a, b):
    await asyncio.sleep(0)
    return a + b


class Greeter:
    """An instance that travels with its job."""

    limit = 3

    def __init__(self, greeting):
        self.greeting = greeting

    def greet(self, name):
        return f'{self.greeting}, {name}'

    async def greet_later(self, name):
        return self.greet(name)

    def __call__(self, name):
        return self.greet(name) + '!'

    @classmethod
    def limited(cls, number):
        return min(number, cls.limit)

    @staticmethod
    def double(number):
        return 2 * number


class OddError(Exception):
    """An exception that needs two arguments."""

    def __init__(self, code, text):
        super().__init__(code, text)
        self.code = code


def fail_oddly():
    raise OddError(7, 'odd')


def leave_when_stopped(job, connection):
    connection.incr('calls')
    sys.exit(1)


def succeeded(job, connection, result):
    """A success callback."""
    connection.rpush('notes', f'success {job.id} {result} {job.get_status(refresh=False).value}')


def failed(job, connection, kind, value, traceback):
    """A failure callback."""
    connection.rpush('notes', f'failure {job.id} {kind.__name__} {value} {traceback is not None}')


def stopped(job, connection):
    """A stopped callback."""
    connection.rpush('notes', f'stopped {job.id}')


def raise_in_callback(job, connection, *outcome):
    connection.rpush('notes', f'raising {job.id}')
    raise RuntimeError('callback broke')


def keep_longer(job, connection, *outcome):
    """Changes the job object in a callback, and does not save it."""
    connection.rpush('notes', f'longer {job.id}')
    job.result_ttl = job.failure_ttl = 5000


def overrun_in_callback(job, connection, *outcome):
    connection.rpush('notes', f'overrun {job.id}')
    time.sleep(60)


def handle(job, kind, value, traceback):
    """An exception handler that lets the next one run."""
    redis().rpush('notes', f'handle {job.id} {kind.__name__}')


def handle_and_end(job, kind, value, traceback):
    """An exception handler that is the last one."""
    redis().rpush('notes', f'end {job.id} {kind.__name__}')
    return False


def set_result_ttl(seconds):
    """Changes its own job object, and does not save it."""
    get_current_job().result_ttl = seconds
    return 'set'


def report(*arguments, **named):
    """A job that runs after others: notes what it was given."""
    note(f'report {json.dumps([arguments, named])}')


def log(text):
    logging.getLogger('app').info(text)


def enqueue(function, *args):
    """Enqueues another job behind this one."""
    from rq import Queue

    Queue(connection=redis()).enqueue(function, *args)
