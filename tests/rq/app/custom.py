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


class NotingQueue(Queue):
    """Says which dependents it enqueues."""

    def enqueue_ready_jobs_by_queue(self, ids):
        self.connection.rpush('notes', *(f'ready {job_id}' for of_one in ids.values() for job_id in of_one), 'none more')
        return super().enqueue_ready_jobs_by_queue(ids)


class NotingWorker(Worker):
    """Says how jobs end."""

    def handle_job_success(self, job, *args, **kwargs):
        self.connection.rpush('notes', f'success {job.id}')
        return super().handle_job_success(job, *args, **kwargs)

    def handle_job_failure(self, job, *args, **kwargs):
        self.connection.rpush('notes', f'failure {job.id}')
        return super().handle_job_failure(job, *args, **kwargs)
