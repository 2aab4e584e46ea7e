"""The same task for Celery. Results are in a Redis database that holds nothing else."""

import os

import tasks
from celery import Celery
from kombu import Queue

app = Celery(broker=os.environ['MILLION_BROKER'], backend=os.environ['MILLION_RESULTS'])
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_queues=[Queue(name, exchange=name, routing_key=name) for name in ('high', 'default', 'low')],
)
fib = app.task(tasks.fib, name='fib')
