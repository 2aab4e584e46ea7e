"""The same application run by the stock worker and by pool, each with a broker and a database of its own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from celery import Celery
from redis import Redis

from support import child
from support.places import control_socket
from support.wait import until

ROOT = Path(__file__).resolve().parents[3]
APP = Path(__file__).resolve().parents[1] / 'app'
POOL = os.environ.get('POOL_BIN', str(ROOT / 'target' / 'debug' / 'pool'))


def together(sides, do):
    """What `do` returns for each side; it runs for all at once."""
    with ThreadPoolExecutor() as threads:
        return list(threads.map(do, sides))


class Side:
    """A worker under test on one broker. Its results are in one database; in another one `ledger` counts what tasks did."""

    def __init__(self, kind, broker, server, database, conf=None):
        self.kind = kind
        self.broker = broker
        self.url = broker.url
        self.results_url = f'redis://127.0.0.1:{server.port}/{database}'
        self.ledger_url = f'redis://127.0.0.1:{server.port}/{database + 8}'
        self.redis = Redis.from_url(self.results_url)
        self.ledger = Redis.from_url(self.ledger_url)
        self.redis.flushdb()
        self.ledger.flushdb()
        self.conf = conf or {}
        self.app = Celery('producer', broker=self.url, backend=self.results_url, set_as_current=False)
        self.app.conf.update({'accept_content': ['json', 'yaml', 'pickle'], 'result_accept_content': ['json'], **self.conf})
        self.processes = []
        self.log = tempfile.TemporaryFile('a+b')  # read while others write: they append

    def start(self, *options, workers=2, ready=True):
        """Starts a worker; `options` are those of `celery worker`, and pool's where only pool runs."""
        line = ['-A', 'shop', 'worker', '-c', str(workers), '-l', 'INFO', *options]
        if self.kind == 'stock':
            command = [sys.executable, '-m', 'celery', *line, '--without-mingle', '--without-gossip']
        else:
            self.socket = control_socket()
            command = [POOL, 'celery', *line, '--python', sys.executable, '--socket', self.socket]
        process = self.spawn(command)
        if ready:
            marker = self.send('shop.add', 1, 1)
            until(lambda: marker.ready() or process.poll() is not None, f'{self.kind} runs tasks', 60)
            assert process.poll() is None, self.output()
        return process

    def verb(self, *words):
        """What a verb of pool prints about the last one that was started."""
        command = [POOL, *words, '--socket', self.socket]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout

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
            'SHOP_BROKER': self.url,
            'SHOP_RESULTS': self.results_url,
            'SHOP_LEDGER': self.ledger_url,
            'SHOP_CONF': json.dumps(self.conf),
        }

    def python(self):
        """The interpreter that has Celery."""
        return sys.executable

    def serve_as(self, other):
        """Serves the queues of another side."""
        self.url, self.results_url, self.ledger_url = other.url, other.results_url, other.ledger_url
        self.broker, self.redis, self.app = other.broker, other.redis, other.app

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
        return self.broker.is_quiet()

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
        self.broker.close()
        self.redis.close()
        self.ledger.close()
