"""A Django application whose tasks are RQ's jobs: `django_tasks_rq`."""

import logging
import os

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        SECRET_KEY='secret',
        INSTALLED_APPS=['django_tasks', 'django_rq', 'django_tasks_rq'],
        RQ_QUEUES={'default': {'URL': os.environ['SUITE_REDIS_URL']}},
        TASKS={'default': {'BACKEND': 'django_tasks_rq.RQBackend'}},
        USE_TZ=True,
    )
    django.setup()

import jobs  # noqa: E402
from django_tasks import task  # noqa: E402
from django_tasks.signals import task_finished, task_started  # noqa: E402
from django_tasks_rq import Job  # noqa: E402, F401 (for --job-class)
from rq import get_current_job  # noqa: E402


@task()
def add(a, b=0):
    return a + b


@task()
async def add_later(a, b):
    return a + b


@task()
def fail(message):
    raise ValueError(message)


@task(takes_context=True)
def attempt(context, tag):
    return [tag, context.attempt, context.task_result.status]


@task()
def keep_longer(seconds):
    """Changes its own job, and does not save it."""
    get_current_job().result_ttl = seconds
    return get_current_job().id


@task()
def overrun():
    return jobs.overrun()


def no_task():
    return 'done'


def told(name):
    def tell(sender, task_result, **_):
        jobs.redis().rpush('notes', f'{name} {task_result.id} {task_result.status}')

    return tell


if 'SHOP_LISTENS' in os.environ:
    started, finished = told('started'), told('finished')
    task_started.connect(started)
    task_finished.connect(finished)


class NotesHandler(logging.Handler):
    def emit(self, record):
        jobs.redis().rpush('notes', f'{record.levelname} {record.getMessage()}')


if 'SHOP_LOGS' in os.environ:
    logging.getLogger('django_tasks').setLevel('INFO')
    logging.getLogger('django_tasks').addHandler(NotesHandler())


if 'SHOP_COUNTS' in os.environ:
    perform = Job.perform

    def noted_perform(job):
        jobs.redis().rpush('performed', job.id)
        return perform(job)

    Job.perform = noted_perform
