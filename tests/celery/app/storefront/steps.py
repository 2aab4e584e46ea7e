"""What the tests do as the project's web process: `python -m storefront.steps STEP`. Each prints JSON."""

import json
import sys

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402
from django_celery_beat.models import IntervalSchedule, PeriodicTask  # noqa: E402
from django_celery_results.models import TaskResult  # noqa: E402

from storefront.orders import tasks  # noqa: E402
from storefront.orders.models import Order  # noqa: E402


def migrate():
    call_command('migrate', run_syncdb=True, verbosity=0)


def order():
    """A task for a row that is committed after it was asked for, and none for one that is rolled back."""
    with transaction.atomic():
        kept = Order.objects.create(name='kept')
        tasks.ship.delay_on_commit(kept.id)
        assert not Order.objects.filter(is_shipped=True)
    try:
        with transaction.atomic():
            tasks.ship.delay_on_commit(Order.objects.create(name='lost').id)
            raise KeyError
    except KeyError:
        pass
    failed = tasks.fail.delay(kept.id)
    connected = [tasks.is_connected.delay().get(timeout=30) for _ in range(2)]
    assert isinstance(failed.get(timeout=30, propagate=False), Order.DoesNotExist)
    return {'connected': connected}


def results():
    """What the result backend keeps in the database."""
    names = ('status', 'task_name', 'task_args', 'task_kwargs', 'result', 'worker', 'content_type', 'periodic_task_name')
    rows = TaskResult.objects.order_by('task_name', 'task_id').values(*names)
    return [row for row in rows if row['task_name']]


def orders():
    return list(Order.objects.order_by('id').values_list('name', 'is_shipped'))


def schedule():
    """A periodic task each second."""
    every, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.SECONDS)
    PeriodicTask.objects.create(interval=every, name='tick', task='storefront.orders.tasks.note', args='["tick"]')


if __name__ == '__main__':
    print(json.dumps(globals()[sys.argv[1]]()))
