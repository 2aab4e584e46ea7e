"""Settings under which Django's own tests run, and the workers beside them."""

SECRET_KEY = "for tests"
USE_TZ = True
INSTALLED_APPS = ["poolhouse.django", "tasks"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
TASKS = {"default": {"BACKEND": "poolhouse.django.PoolBackend", "QUEUES": []}}
