"""Classes that users of RQ put in place of its own."""

import json

from rq import Queue, Worker
from rq.job import Job

import jobs


class MarkedSerializer:
    """JSON behind a mark, so that another serializer can't read it."""

    @staticmethod
    def dumps(value):
        return b'marked:' + json.dumps(value).encode()

    @staticmethod
    def loads(data):
        assert data.startswith(b'marked:'), data
        return json.loads(data.removeprefix(b'marked:'))


class CountedJob(Job):
    """Counts how often it is performed."""

    def perform(self):
        self.connection.rpush('notes', f'perform {self.id}')
        return super().perform()


class OwnNamespaceJob(Job):
    redis_job_namespace_prefix = 'own:job:'


class OwnNamespaceQueue(Queue):
    redis_queue_namespace_prefix = 'own:queue:'
    job_class = OwnNamespaceJob


class HandlingWorker(Worker):
    """A worker that brings its own exception handler, as error trackers do."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.push_exc_handler(jobs.handle)
