"""A template of pool's with one worker; the test plays supervisor and broker."""

import json
import sys
from pathlib import Path

from harness import messages
from supervisor import FAILURE, REJECTED, SUCCESS, Template

APP = Path(__file__).resolve().parents[1] / 'app'


class Answer:
    """What the worker made of a message."""

    def __init__(self, done):
        #: What the supervisor counts: a failure for good, or not.
        self.failed = done.code == REJECTED
        assert done.code in (SUCCESS, REJECTED), (done.code, done.data.decode())
        value = json.loads(done.data)
        self.error = value if self.failed else None
        self.outcome = json.loads(value['broker']) if self.failed else value
        self.state, self.then, self.store = (self.outcome[name] for name in ('state', 'then', 'store'))

    @property
    def events(self):
        """The types of the events that it hands over, if it hands over any."""
        return [kind for kind, _ in self.outcome['events']]


class Pool:
    """Started on creation."""

    def __init__(self, redis, url, notes, fresh=False, environment=None, max_result=1 << 20, **options):
        self.redis = redis
        self.app = messages.producer(url)
        variables = {'PYTHONPATH': str(APP), 'PROJ_REDIS': url, 'PROJ_NOTES': str(notes), **(environment or {})}
        self.template = Template({}, python=sys.executable, environment=variables)
        load = {'dialect': 'celery', 'options': {'app': 'proj', **options}, 'fresh': fresh, 'max_result': max_result}
        self.answer = self.template.load(**load)
        self.facts = json.loads(self.template.facts or 'null')
        self._worker = None

    @property
    def worker(self):
        """Its first worker."""
        if self._worker is None:
            assert self.answer['type'] == 'ready', self.answer
            self._worker = self.template.worker()
        return self._worker

    def run(self, envelope, kind=messages.TASK, timeout_ms=0, **more):
        """Runs a message, and stores what the broker is to store."""
        self.last = envelope
        done = self.worker.call('celery', payload=messages.payload(envelope, **more), kind=kind, timeout_ms=timeout_ms)
        self.worker.stderr.all()  # a pipe that nobody reads fills up
        answer = Answer(done)
        if answer.store:
            key, value, expires = (answer.store[name] for name in ('key', 'value', 'expires'))
            self.redis.set(key, value, ex=expires)
        return answer

    def send(self, name, *args, kind=messages.TASK, **options):
        """Sends a task as any producer does, and runs it."""
        self.app.send_task(name, args, **options)
        return self.run(messages.taken(self.redis), kind)

    def chore(self, name, *args, chore, **options):
        """Does something with the message of a task."""
        self.app.send_task(name, args, **options)
        return self.run(messages.taken(self.redis), messages.CHORE, chore=chore)

    def broken(self, envelope, kind=messages.TASK, **more):
        """The error of a frame that is to run again."""
        done = self.worker.call('celery', payload=messages.payload(envelope, **more), kind=kind)
        assert done.code == FAILURE, done
        return done.error

    def close(self):
        self.app.close()
        self.template.__exit__()
