"""The same tasks for huey; it keeps results in its own hash."""

import os

import rq_tasks
from huey import RedisHuey

huey = RedisHuey('bench', url=os.environ['BENCH_URL'] + '/0')
noop = huey.task()(rq_tasks.noop)
now = huey.task()(rq_tasks.now)
