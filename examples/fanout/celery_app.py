"""The subtask for Celery: broker and results in one Redis, or the results in a database."""

import os

import subtask
from celery import Celery

url = os.environ['FANOUT_REDIS']
app = Celery(broker=url, backend=os.environ.get('FANOUT_RESULTS', url))
app.conf.broker_connection_retry_on_startup = True
square = app.task(subtask.square, name='square')
