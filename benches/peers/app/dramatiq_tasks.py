"""The same tasks for dramatiq, with results."""

import os

import dramatiq
import rq_tasks
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

url = os.environ['BENCH_URL']
broker = RedisBroker(url=f'{url}/0')
broker.add_middleware(Results(backend=RedisBackend(url=f'{url}/1')))
dramatiq.set_broker(broker)
noop = dramatiq.actor(rq_tasks.noop, actor_name='noop', store_results=True)
now = dramatiq.actor(rq_tasks.now, actor_name='now', store_results=True)
