"""Settings of the project; where things are is in the environment."""

import os

SECRET_KEY = 'for tests'
USE_TZ = True
DEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'
INSTALLED_APPS = [
    'django.contrib.contenttypes',
    'django_celery_results',
    'django_celery_beat',
    'storefront.orders',
]
DATABASES = {
    'default': {
        'ENGINE': 'django.db.backends.sqlite3',
        'NAME': os.environ['STOREFRONT_DATABASE'],
        'OPTIONS': {'timeout': 20, 'transaction_mode': 'IMMEDIATE'},
    }
}
CELERY_BROKER_URL = os.environ['SHOP_BROKER']
CELERY_RESULT_BACKEND = 'django-db'
CELERY_RESULT_EXTENDED = True
CELERY_BEAT_SCHEDULER = 'django_celery_beat.schedulers:DatabaseScheduler'
