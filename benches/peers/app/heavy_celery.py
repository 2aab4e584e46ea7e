"""The same application for Celery."""

import heavy
from celery_tasks import app

read_part = app.task(heavy.read_part, name='read_part')
noop = app.task(heavy.noop, name='noop')
