"""The same sink behind Celery: one event a message.

Celery's defaults, which favour it: a message is acknowledged before its task runs, so that a killed worker loses it; each
worker process prefetches four; there are no results. The pool keeps a job until its outcome is settled, and its result.
"""

import os

import celery
from celery.signals import worker_process_init

import sink

app = celery.Celery("ingest", broker=os.environ["INGEST_REDIS"])

#: Messages wait here until the workers are up; then the list gets the name of the queue.
HELD = "held"


@worker_process_init.connect
def connect(**_):
    sink.connect()


@app.task(name="insert")
def insert(event):
    sink.store([event])
