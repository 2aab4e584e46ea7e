"""A Django application whose tasks are RQ's jobs; with BENCH_DJANGO_LOGS its log is on, and goes nowhere."""

import logging
import os

import django
from django.conf import settings

settings.configure(
    SECRET_KEY='bench',
    INSTALLED_APPS=['django_tasks', 'django_rq', 'django_tasks_rq'],
    RQ_QUEUES={'bench': {'URL': os.environ['BENCH_URL']}},
    TASKS={'default': {'BACKEND': 'django_tasks_rq.RQBackend', 'QUEUES': ['bench']}},
    LOGGING_CONFIG=None,
    USE_TZ=True,
)
django.setup()

from django_tasks import task  # noqa: E402
from django_tasks_rq import Job  # noqa: E402, F401 (for --job-class)

if 'BENCH_DJANGO_LOGS' in os.environ:
    logging.getLogger('django_tasks').setLevel('INFO')
    logging.getLogger('django_tasks').addHandler(logging.NullHandler())


@task(queue_name='bench')
def noop():
    return 1
