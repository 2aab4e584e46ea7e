"""The same application for Celery."""

import catalog
from celery_tasks import app

read_part = app.task(catalog.read_part, name='read_part')
