"""A redis-server of our own on a free loopback port, stopped by its process id."""

import socket
import subprocess
import tempfile

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from support import child
from support.wait import until


class RedisServer:
    """Started on creation; `url` and `socket_path` reach it, `client()` speaks to it.

    `login` is the `user:password` that the options ask for.
    """

    def __init__(self, *options, login=''):
        self.directory = tempfile.TemporaryDirectory(prefix='rq-suite-')
        self.port = free_port()
        self.url = f'redis://{login}@127.0.0.1:{self.port}/0'.replace('//@', '//')
        self.socket_path = f'{self.directory.name}/redis.sock'
        command = ['redis-server', '--bind', '127.0.0.1', '--port', str(self.port), '--unixsocket', self.socket_path]
        command += ['--save', '', '--appendonly', 'no', '--dir', self.directory.name, *options]
        self.process = child.start(command, stdout=subprocess.DEVNULL)
        try:
            until(self.answers, f'redis-server on port {self.port} answers')
        except BaseException:
            self.stop()
            raise

    def client(self):
        """Blocking reads last as long as they say, whatever default the installed client has."""
        return Redis.from_url(self.url, socket_timeout=None)

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f'redis-server ended with status {self.process.returncode}')
        try:
            with self.client() as client:
                return client.ping()
        except RedisConnectionError:
            return False

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.directory.cleanup()


def free_port():
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]
