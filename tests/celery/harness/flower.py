"""Flower, as its users start it, and what its pages and buttons answer."""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request

from support.server import free_port
from support.wait import until


class Flower:
    """Started on creation for the application of a side, on a free loopback port. `broker_api`: the management interface of RabbitMQ."""

    def __init__(self, side, broker_api=None):
        self.url = f'http://127.0.0.1:{free_port()}'
        port = self.url.rsplit(':', 1)[1]
        line = ['-m', 'celery', '-A', 'shop', 'flower', '--address=127.0.0.1', f'--port={port}', '--inspect-timeout=5000']
        if broker_api:
            line.append(f'--broker-api={broker_api}')
        # Its buttons need either accounts or this.
        env = {**side.environment(), 'FLOWER_UNAUTHENTICATED_API': 'true'}
        self.process = side.spawn([sys.executable, *line], env=env)
        until(self._is_up, 'Flower answers', 30)

    def _is_up(self):
        assert self.process.poll() is None, 'Flower ended'
        try:
            return self.page('/healthcheck')
        except urllib.error.URLError:
            return False

    def page(self, path):
        """A page as text."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return answer.read().decode()

    def get(self, path):
        """What its interface for programs says."""
        return json.loads(self.page(path))

    def press(self, path, **fields):
        """Presses a button; returns what it says."""
        body = urllib.parse.urlencode(fields).encode()
        try:
            with urllib.request.urlopen(self.url + path, body, timeout=30) as answer:
                return json.loads(answer.read())['message']
        except urllib.error.HTTPError as refused:
            raise AssertionError(f'{path}: {refused.code} {refused.read().decode()}') from None
