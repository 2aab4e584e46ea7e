"""A stock worker with one process, to compare with."""

import json
import os
import subprocess
import sys
import uuid

from harness import messages
from harness.pool import APP
from support import child
from support.wait import until


class Stock:
    """Started on creation."""

    def __init__(self, redis, url, notes):
        self.redis = redis
        self.app = messages.producer(url)
        command = [sys.executable, '-m', 'celery', '-A', 'proj', 'worker', '-c', '1', '-l', 'CRITICAL']
        variables = {'PYTHONPATH': str(APP), 'PROJ_REDIS': url, 'PROJ_NOTES': str(notes)}
        self.process = child.start(
            [*command, '--without-gossip', '--without-mingle', '-Q', 'celery'],
            cwd=str(APP),
            env={**os.environ, 'PYTHONDONTWRITEBYTECODE': '1', **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def send(self, name, *args, **options):
        """Sends a task and waits until it has ended: another one, sent behind it, has."""
        self.app.send_task(name, args, **options)
        self.settle()

    def push(self, envelope):
        """A message as it is to lie in Redis."""
        self.redis.lpush('celery', json.dumps(envelope))
        self.settle()

    def settle(self):
        """Until all that was sent has ended."""
        marker = str(uuid.uuid4())
        self.app.send_task('proj.add', (1, 1), task_id=marker)
        until(lambda: self.redis.exists(f'celery-task-meta-{marker}'), 'the stock worker has run all tasks')
        self.redis.delete(f'celery-task-meta-{marker}')

    def close(self):
        self.process.kill()
        self.process.wait()
        self.app.close()
