"""A redis-server of our own on a free loopback port, stopped by its process id."""

import socket
import subprocess
import tempfile
from pathlib import Path

from redis import Redis
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError

from support import child
from support.wait import until


class RedisServer:
    """Started on creation, unless `launch` is to be called; `url` and `socket_path` reach it, `client()` speaks to it.

    `login` is the `user:password` that the options ask for.
    """

    def __init__(self, *options, login='', is_launched=True):
        self.directory = tempfile.TemporaryDirectory(prefix='rq-suite-')
        self.port = free_port()
        self.url = f'redis://{login}@127.0.0.1:{self.port}/0'.replace('//@', '//')
        self.socket_path = f'{self.directory.name}/redis.sock'
        self.command = [*self.program(), '--bind', '127.0.0.1', '--port', str(self.port), '--dir', self.directory.name]
        self.command += options
        self.process = None
        try:
            if is_launched:
                self.launch()
        except BaseException:
            self.stop()
            raise

    def launch(self):
        """Starts it (again), and waits until it answers."""
        self.process = child.start(self.command, stdout=subprocess.DEVNULL)
        until(self.answers, f'redis-server on port {self.port} answers')

    def kill(self):
        """kill -9. What `--appendonly yes` kept is there again after `launch`."""
        self.process.kill()
        self.process.wait()

    def program(self):
        return ['redis-server', '--unixsocket', self.socket_path, '--save', '', '--appendonly', 'no']

    def client(self):
        """Blocking reads last as long as they say, whatever default the installed client has."""
        return Redis.from_url(self.url, socket_timeout=None)

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f'redis-server ended with status {self.process.returncode}')
        try:
            with self.client() as client:
                return client.ping()
        except (RedisConnectionError, BusyLoadingError):
            return False

    def stop(self):
        if self.process is not None:
            self.kill()
        self.directory.cleanup()


class Sentinel(RedisServer):
    """Watches this server under the name `main`."""

    def __init__(self, master):
        self.master = master
        super().__init__()

    def program(self):
        settings = Path(self.directory.name, 'sentinel.conf')
        settings.write_text(f'sentinel monitor main 127.0.0.1 {self.master.port} 1\n')
        return ['redis-server', str(settings), '--sentinel']


def free_port():
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]
