"""Source: Celery's documentation, "First steps with Django"."""

import os

from celery import Celery

os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'storefront.settings')

app = Celery('storefront')
app.config_from_object('django.conf:settings', namespace='CELERY')
app.autodiscover_tasks()
