"""The same task for Celery: broker in one Redis database, results in another, which the second one holds alone."""

import os

import tasks
from celery import Celery

url = os.environ['MILLION_REDIS']
app = Celery(broker=f'{url}/0', backend=f'{url}/1')
app.conf.broker_connection_retry_on_startup = True
fib = app.task(tasks.fib, name='fib')
