"""Tasks of the project."""

try:
    from django.tasks import task
    from django.tasks.signals import task_finished, task_started
except ImportError:
    from django_tasks import task
    from django_tasks.signals import task_finished, task_started

from store.models import Order


class OutOfStock(Exception):
    pass


@task
def add(a, b=0):
    return a + b


@task(queue_name="mail")
def order(name):
    return Order.objects.create(name=name).pk


@task
async def twice(number):
    return number * 2


@task
def fail(message):
    raise OutOfStock(message)


@task(takes_context=True)
def about(context, *args, **kwargs):
    return [context.task_result.id, context.attempt, list(args), kwargs]


@task
def seen():
    return _seen


_seen = []


def _note(word):
    def note(sender, task_result, **kwargs):
        _seen.append([word, task_result.task.name, str(task_result.status)])

    return note


_on_started, _on_finished = _note("started"), _note("finished")
task_started.connect(_on_started)
task_finished.connect(_on_finished)
