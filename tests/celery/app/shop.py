"""The application of the conformance suite: each task counts its runs, in a database of the suite's own."""

import json
import os
import signal
import time

from celery import Celery
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.worker.control import control_command, inspect_command
from kombu import Queue
from kombu.common import Broadcast
from redis import Redis

NOWHERE = 'redis://127.0.0.1:1/0'
LEDGER = os.environ.get('SHOP_LEDGER', NOWHERE)
app = Celery('shop', broker=os.environ.get('SHOP_BROKER', NOWHERE), backend=os.environ.get('SHOP_RESULTS', NOWHERE))
CONF = json.loads(os.environ.get('SHOP_CONF', '{}'))
BROADCAST = [Broadcast(name) for name in CONF.pop('broadcast', [])]
app.conf.update(
    {
        'task_queues': [Queue('celery'), Queue('mail', exchange='mail', routing_key='mail'), *BROADCAST],
        'result_expires': 3600,
        'accept_content': ['json', 'yaml', 'pickle'],
        **CONF,
    }
)


def ledger():
    """Where runs are counted."""
    return Redis.from_url(LEDGER)


def count(name):
    """One more run of this name; returns how many there were."""
    with ledger() as redis:
        return redis.hincrby('runs', name, 1)


@app.task
def add(x, y):
    return x + y


@app.task
def text(value, times=1):
    return value * times


@app.task
def pid():
    return os.getpid()


@app.task
def total(numbers):
    return sum(numbers)


@app.task
def boom(message='nope'):
    raise ValueError(message)


@app.task(ignore_result=True)
def quiet(name):
    count(name)


@app.task(bind=True)
def request(self):
    wanted = ('id', 'root_id', 'parent_id', 'group', 'retries', 'correlation_id', 'headers', 'shadow', 'timelimit')
    info = {key: self.request.delivery_info.get(key) for key in ('exchange', 'routing_key', 'priority', 'redelivered')}
    return {**{key: getattr(self.request, key) for key in wanted}, **info, 'called_directly': self.request.called_directly}


@app.task(bind=True, max_retries=2)
def retries(self, name, succeed_at):
    if count(name) < succeed_at:
        raise self.retry(exc=KeyError('again'), countdown=0.1)
    return self.request.retries


@app.task(autoretry_for=(KeyError,), retry_backoff=False, default_retry_delay=0.1, max_retries=1)
def retries_by_itself(name):
    count(name)
    raise KeyError(name)


@app.task
def ignored():
    raise Ignore()


@app.task(acks_late=True)
def rejected(name, requeue=False):
    if count(name) < 3:
        raise Reject('no', requeue=requeue)
    return 'at last'


@app.task(bind=True)
def replaced(self, x):
    raise self.replace(add.s(x, 1))


@app.task(bind=True)
def progress(self):
    self.update_state(state='PROGRESS', meta={'done': 1})
    return 'done'


@app.task(soft_time_limit=0.3)
def catches_soft_limit():
    try:
        time.sleep(30)
    except SoftTimeLimitExceeded:
        return 'caught'


@app.task
def cleans_up(name):
    """Ends in its own way when somebody tells it to."""
    count(name)
    try:
        time.sleep(30)
    except SoftTimeLimitExceeded:
        return 'cleaned up'


@app.task(soft_time_limit=0.3)
def misses_soft_limit():
    time.sleep(30)


@inspect_command(args=[('price', float)])
def offer(state, price=1.0, **_):
    """What the shop has."""
    return {'app': state.app.main, 'node': state.hostname, 'price': price, 'tasks': len(state.tset(['a', 'a']))}


@control_command()
def close_shop(state, why):
    count(f'closed for {why}')
    raise KeyError(why)


@app.task
def sleeps(name, seconds):
    count(name)
    time.sleep(seconds)
    return name


@app.task(acks_late=True)
def sleeps_late(name, seconds):
    count(name)
    time.sleep(seconds)
    return name


@app.task(bind=True, acks_late=True)
def came_again(self, seconds=0):
    time.sleep(seconds)
    return self.request.delivery_info['redelivered']


def noted(name, seconds):
    """Says when it begins and when it ends."""
    count(f'begun {name}')
    time.sleep(seconds)
    count(f'ended {name}')


@app.task
def noted_quickly(name):
    """Its result is one that the supervisor stores."""
    return count(name)


@app.task
def early(name, seconds):
    noted(name, seconds)


@app.task(acks_late=True, reject_on_worker_lost=True)
def late(name, seconds):
    noted(name, seconds)


@app.task
def leaves(code):
    raise SystemExit(code)


@app.task
def killed():
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(acks_late=True, reject_on_worker_lost=True)
def killed_once(name):
    if count(name) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return 'survived'


@app.task(acks_late=True, reject_on_worker_lost=True)
def killed_always(name):
    count(name)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def linked(value, name):
    with ledger() as redis:
        redis.rpush(name, json.dumps(value))


@app.task
def on_error(request, error, traceback, name):
    with ledger() as redis:
        redis.rpush(name, f'{request.id} {type(error).__name__}')


@app.task(typing=False)
def no_json():
    return object()


class Hooks(app.Task):
    """Says which of its hooks are called."""

    def on_success(self, *_):
        count('on_success')

    def on_failure(self, *_):
        count('on_failure')

    def on_retry(self, *_):
        count('on_retry')

    def after_return(self, *_):
        count('after_return')


@app.task(base=Hooks, bind=True, max_retries=1)
def hooked(self, how):
    if how == 'fail':
        raise ValueError('hooked')
    if how == 'retry' and self.request.retries == 0:
        raise self.retry(countdown=0.1)
    return how
