"""A settings module as `rq worker --config` reads it."""

import os

REDIS_URL = os.environ.get('SUITE_REDIS_URL')
QUEUES = ['from-settings']
NAME = 'named-by-settings'
