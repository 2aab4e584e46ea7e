"""Settings of the project; the tests name the broker and the database."""

import importlib.util
import os

SECRET_KEY = "for tests"
USE_TZ = True
INSTALLED_APPS = ["poolhouse.django", "store"]
if importlib.util.find_spec("django.tasks") is None:
    INSTALLED_APPS.append("django_tasks")
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("SITE_DATABASE", ":memory:")}}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
TASKS = {
    "default": {
        "BACKEND": "poolhouse.django.PoolBackend",
        "QUEUES": ["default", "mail"],
        "OPTIONS": {"BROKER": os.environ.get("SITE_BROKER")},
    }
}
