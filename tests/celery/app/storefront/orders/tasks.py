"""Tasks that `autodiscover_tasks` finds."""

from celery import shared_task
from django.db import connection

from storefront.orders.models import Order


@shared_task
def ship(order_id):
    """Only an order that is committed is found."""
    Order.objects.filter(id=order_id, is_shipped=False).update(is_shipped=True)
    return Order.objects.get(id=order_id).name


@shared_task
def fail(order_id):
    raise Order.DoesNotExist(order_id)


@shared_task(ignore_result=True)
def note(name):
    Order.objects.create(name=name)


@shared_task
def is_connected():
    """Whether the connection of the task before was left open; Django closes what is older than CONN_MAX_AGE."""
    return connection.connection is not None
