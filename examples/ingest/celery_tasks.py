"""The same sink behind Celery: one event a message. Celery's own worker stores one a call, pool's workers a batch of them.

Celery's defaults, which favour it: a message is acknowledged before its task runs, so that a killed worker loses it; each
worker process prefetches four; there are no results. The pool keeps a job until its outcome is settled, and its result.
"""

import os

import celery
from celery.signals import worker_process_init

import sink

try:
    from pool_job import batch
except ImportError:  # Celery's own worker, and producers
    batch = None

app = celery.Celery("ingest", broker=os.environ["INGEST_REDIS"])

#: Messages wait here until the workers are up; then the list gets the name of the queue.
HELD = "held"


@worker_process_init.connect
def connect(**_):
    sink.connect()


if batch is None:

    @app.task(name="insert")
    def insert(event):
        sink.store([event])
else:

    @app.task(name="insert", typing=False)
    @batch(size=100, linger="50ms")
    def insert(calls):
        sink.store([call.args[0] for call in calls])
        return [None] * len(calls)
