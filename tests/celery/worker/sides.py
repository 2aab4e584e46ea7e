"""The same application run by the stock worker and by pool, each on databases of its own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from celery import Celery
from redis import Redis

from support import child
from support.wait import until

ROOT = Path(__file__).resolve().parents[3]
APP = Path(__file__).resolve().parents[1] / 'app'
POOL = os.environ.get('POOL_BIN', str(ROOT / 'target' / 'debug' / 'pool'))


class Side:
    """A worker under test on one database; `ledger` counts what the tasks did on another one."""

    def __init__(self, kind, server, database, conf=None):
        self.kind = kind
        self.url = f'redis://127.0.0.1:{server.port}/{database}'
        self.ledger_url = f'redis://127.0.0.1:{server.port}/{database + 8}'
        self.redis = Redis.from_url(self.url)
        self.ledger = Redis.from_url(self.ledger_url)
        self.conf = conf or {}
        self.app = Celery('producer', broker=self.url, backend=self.url, set_as_current=False)
        self.app.conf.update(accept_content=['json', 'yaml', 'pickle'], result_accept_content=['json'], **self.conf)
        self.processes = []
        self.log = tempfile.TemporaryFile('a+b')  # read while others write: they append

    def start(self, *options, workers=2, ready=True):
        """Starts a worker; `options` are those of `celery worker`, and pool's where only pool runs."""
        line = ['-A', 'shop', 'worker', '-c', str(workers), '-l', 'INFO', *options]
        if self.kind == 'stock':
            command = [sys.executable, '-m', 'celery', *line, '--without-mingle', '--without-gossip']
        else:
            socket = tempfile.mktemp(prefix='pool-', suffix='.sock')
            command = [POOL, 'celery', *line, '--python', sys.executable, '--socket', socket]
        process = self.spawn(command)
        if ready:
            marker = self.send('shop.add', 1, 1)
            until(lambda: marker.ready() or process.poll() is not None, f'{self.kind} runs tasks', 15)
            assert process.poll() is None, self.output()
        return process

    def spawn(self, command, env=None):
        """Starts a program in the application's surroundings."""
        env = env or self.environment()
        process = child.start(command, env=env, cwd=str(APP), stdout=self.log, stderr=subprocess.STDOUT)
        self.processes.append(process)
        return process

    def environment(self):
        """What the application reads."""
        return {
            **os.environ,
            'PYTHONPATH': str(APP),
            'PYTHONDONTWRITEBYTECODE': '1',
            'C_FORCE_ROOT': '1',  # the tests may run as root
            'SHOP_REDIS': self.url,
            'SHOP_LEDGER': self.ledger_url,
            'SHOP_CONF': json.dumps(self.conf),
        }

    def python(self):
        """The interpreter that has Celery."""
        return sys.executable

    def serve_as(self, other):
        """Serves the queues of another side."""
        self.url, self.redis, self.ledger_url, self.app = other.url, other.redis, other.ledger_url, other.app

    def send(self, name, *args, **options):
        """Calls a task."""
        return self.app.send_task(name, args, **options)

    def task(self, name, *args, **options):
        """A signature."""
        return self.app.signature(f'shop.{name}', args, **options)

    def runs(self, name):
        """How often the tasks counted under this name ran."""
        return int(self.ledger.hget('runs', name) or 0)

    def is_quiet(self):
        """No message waits, and none is unacknowledged."""
        lists = [key for key in self.redis.keys('*') if self.redis.type(key) == b'list']
        return not lists and not self.redis.exists('unacked', 'unacked_index')

    def output(self):
        """What all its workers wrote."""
        self.log.seek(0)
        return self.log.read().decode(errors='replace')

    def clear(self):
        """Forgets results and counts; queues and their bindings stay."""
        self.ledger.flushdb()
        for key in self.redis.keys('celery-task*'):
            self.redis.delete(key)

    def stop(self):
        """Stops its workers as a service manager does."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        codes = [process.wait(60) for process in self.processes]
        self.processes.clear()
        return codes

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()
        print(f'--- {self.kind}\n{self.output()}')
        self.log.close()
        self.app.close()
        self.redis.close()
        self.ledger.close()
