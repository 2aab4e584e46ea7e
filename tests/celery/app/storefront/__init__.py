"""A Django project with Celery, as Celery's documentation sets it up."""

from storefront.celery import app as celery_app

__all__ = ('celery_app',)
