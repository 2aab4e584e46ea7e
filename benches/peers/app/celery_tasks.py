"""The same tasks for Celery: broker in one Redis database, or where BENCH_BROKER says; results in another one."""

import os

import rq_tasks
from celery import Celery

url = os.environ['BENCH_URL']
app = Celery(broker=os.environ.get('BENCH_BROKER', f'{url}/0'), backend=f'{url}/1')
app.conf.broker_connection_retry_on_startup = True
noop = app.task(rq_tasks.noop, name='noop')
now = app.task(rq_tasks.now, name='now')
rest = app.task(rq_tasks.rest, name='rest')
noop_ignored = app.task(rq_tasks.noop, name='noop_ignored', ignore_result=True)
