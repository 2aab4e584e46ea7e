"""The command line of `pool` as a client of the server under test."""

import json
import os
import subprocess

import pytest

from support import child
from support.wait import until
from support.worker import ROOT

BIN = os.environ.get('POOL_BIN', str(ROOT / 'target' / 'debug' / 'pool'))

needs_pool = pytest.mark.skipif(not os.path.exists(BIN), reason='pool is not built')


class Client:
    """A verb of `pool` that runs."""

    def __init__(self, server, verb, *arguments):
        self.process = child.start(
            [BIN, verb, '--broker', server.url, *map(str, arguments)],
            env={**os.environ, 'POOL_RUNTIME': 'rq', 'XDG_RUNTIME_DIR': server.directory.name},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self):
        """Its next line, which is JSON."""
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def end(self, status=0):
        """Waits until it has ended; what is left of its output, line by line."""
        out, self.error = self.process.communicate(timeout=30)
        assert self.process.returncode == status, self.error
        return [json.loads(line) for line in out.splitlines()]

    def text(self, status=0):
        """Waits until it has ended; what it said."""
        out, self.error = self.process.communicate(timeout=30)
        assert self.process.returncode == status, self.error
        return out.strip()

    def close(self):
        self.process.kill()
        self.process.communicate()


def run(url, *arguments):
    """Runs a verb to its end on the broker of this URL; the exit status, what it said, and what it complained of."""
    environment = {**os.environ, 'POOL_RUNTIME': 'rq', 'POOL_BROKER': url}
    command = [BIN, *map(str, arguments)]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def blocked(redis):
    """Clients that wait in a blocking read of streams."""
    return [client for client in redis.client_list() if client['cmd'].startswith('xread') and 'b' in client['flags']]


def until_blocked(redis, count=1):
    until(lambda: len(blocked(redis)) == count, 'a client waits')
