"""The worker under test: `rq worker` as it is, or `pool --runtime rq`; the tests can't tell them apart.

An option is written as `rq worker` knows it: `results_ttl=7` is `--results-ttl 7`, `burst=True` is
`--burst`, a list repeats the option.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from rq import Worker

from support import child
from support.nursery import Nursery
from support.places import control_socket
from support.wait import DEADLINE, until

ROOT = Path(__file__).resolve().parents[3]
APP = Path(__file__).resolve().parents[1] / 'app'
BIN = Path(sys.executable).parent


class Stock:
    """`rq worker`; several workers are several processes, as its users run it."""

    name = 'stock'
    nursery = Nursery()

    def start(self, command, env, log):
        # RQ reads the prefix of its keys when it is imported.
        if 'RQ_KEY_PREFIX' in env:
            return start(command, env, log)
        return self.nursery.start(command, env, log)

    def commands(self, url, queues, workers, options):
        options = dict(options)
        if 'rq_config' in options:
            options['config'] = options.pop('rq_config')
        return [[str(BIN / 'rq'), 'worker', '--url', url, *flags(options), *queues] for _ in range(workers)]


class Pool:
    """`pool --runtime rq`; several workers are one pool of that size."""

    name = 'pool'

    def start(self, command, env, log):
        return start(command, env, log)

    def commands(self, url, queues, workers, options):
        program = os.environ.get('POOL_BIN', str(ROOT / 'target' / 'debug' / 'pool'))
        url = url.replace('unix://', 'redis+unix://')
        size = ['--min-workers', str(workers), '--max-workers', str(workers)]
        socket = ['--socket', control_socket()]
        python = ['--python', sys.executable]
        listed = [part for queue in queues for part in ('--queue', queue)]
        return [[program, 'run', '--runtime', 'rq', '--broker', url, *python, *size, *socket, *listed, *flags(options)]]


def start(command, env, log):
    """A process whose output goes to the open file `log`."""
    return child.start(command, env=env, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


TARGETS = {target.name: target for target in (Stock(), Pool())}


def flags(options):
    """Options as a command line."""
    line = []
    for key, value in options.items():
        flag = '--' + key.replace('_', '-')
        for one in value if isinstance(value, list) else [value]:
            line += [flag] if one is True else [flag, str(one)]
    return line


class Work:
    """Starts workers of one target on one server, and leaves none behind."""

    def __init__(self, target, server):
        self.target = target
        self.server = server
        self.started = []

    def burst(self, *queues, status=0, deadline=60, **options):
        """Runs a worker until its queues are empty; returns what it wrote."""
        return self.launch(*queues, burst=True, **options).wait(status, deadline)

    def start(self, *queues, workers=1, **options):
        """Starts workers and waits until they hear commands and signals and look for jobs."""
        running = self.launch(*queues, workers=workers, **options)
        with self.server.client() as client:
            until(lambda: running.are_at_work(client, queues or ('default',), workers), 'workers are at work', DEADLINE)
        return running

    def launch(self, *queues, workers=1, env=None, url=None, **options):
        """Starts workers and waits for nothing; without a queue they serve `default`, as RQ does."""
        commands = self.target.commands(url or self.server.url, queues, workers, options)
        environment = {**os.environ, 'PYTHONPATH': str(APP), 'SUITE_REDIS_URL': self.server.url, **(env or {})}
        running = Workers(self.target, commands, environment)
        self.started.append(running)
        return running

    def close(self):
        for running in self.started:
            running.kill()
            print(f'--- {running.commands[0]}\n{running.output()}')
            running.log.close()


class Workers:
    """The processes of one or several workers; their output goes to one file."""

    def __init__(self, target, commands, env):
        self.commands = commands
        self.log = tempfile.TemporaryFile('a+b')  # read while others write: they append
        self.processes = [target.start(command, env, self.log) for command in commands]

    def are_at_work(self, client, queues, count):
        for process in self.processes:
            if process.poll() is not None:
                raise AssertionError(f'the worker ended with status {process.returncode}:\n{self.output()}')
        keys = set.intersection(*({key for key in client.smembers(f'rq:workers:{queue}')} for queue in queues))
        return sum(client.hget(key, 'state') in (b'idle', b'busy', b'suspended') for key in keys) >= count

    def output(self):
        self.log.seek(0)
        return self.log.read().decode(errors='replace')

    def signal(self, number=signal.SIGTERM):
        for process in self.processes:
            process.send_signal(number)

    def wait(self, status=0, deadline=DEADLINE):
        """Waits until all have ended, with this exit status (`None`: any); returns their output."""
        for process in self.processes:
            until(lambda: process.poll() is not None, f'{process.args} ends', deadline)
            if status is not None and process.returncode != status:
                raise AssertionError(f'exit status {process.returncode}, expected {status}:\n{self.output()}')
        return self.output()

    def stop(self):
        """A warm shutdown."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self):
        """kill -9 of all of it at once: workers, and the processes that run their jobs."""
        for process in self.processes:
            if process.poll() is None:
                for pid in [process.pid, *descendants(process.pid)]:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass
                process.wait()


def descendants(pid):
    """The process ids below `pid`, the nearest first."""
    try:
        found = [int(child) for child in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        found = []  # it has ended
    return found + [below for child in found for below in descendants(child)]


def registered(connection):
    """Names of the registered workers."""
    return {worker.name for worker in Worker.all(connection=connection)}
