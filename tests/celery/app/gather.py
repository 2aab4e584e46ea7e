"""Batch tasks of the conformance suite's application: `-I gather` adds them."""

import json
import os
import signal

from celery_batches import Batches
from shop import app, count, ledger

try:
    from pool_job import Retry, batch
except ImportError:  # a stock worker
    batch = None


def note(name, values):
    """Notes what one call got."""
    with ledger() as redis:
        redis.rpush(name, json.dumps(values))


def answer(requests):
    for request in requests:
        app.backend.mark_as_done(request.id, sum(request.args), request=request)


@app.task(base=Batches, flush_every=5, flush_interval=0.5)
def sums(requests):
    note('sums', [request.args[0] for request in requests])
    answer(requests)


@app.task(base=Batches, flush_every=3, flush_interval=0.5, acks_late=True)
def sums_late(requests):
    note('sums_late', [request.args[0] for request in requests])
    answer(requests)


@app.task(base=Batches, flush_every=2, flush_interval=0.5)
def described(requests):
    names = ('id', 'name', 'args', 'kwargs', 'hostname', 'ignore_result', 'correlation_id', 'delivery_info', 'chord')
    for request in requests:
        told = {name: getattr(request, name) for name in names}
        told['hostname'] = bool(told['hostname'])
        told['request_dict'] = sorted(request.request_dict)
        app.backend.mark_as_done(request.id, told, request=request)


@app.task(base=Batches, flush_every=2, flush_interval=0.5, acks_late=True)
def fails(requests):
    note('fails', len(requests))
    raise KeyError('nobody hears of it')


@app.task(base=Batches, flush_every=3, flush_interval=0.5, acks_late=True)
def dies_once(requests):
    if count('dies_once') == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    answer(requests)


@app.task(base=Batches, flush_every=3, flush_interval=0.5)
def dies_early(requests):
    os.kill(os.getpid(), signal.SIGKILL)


if batch is not None:

    @app.task(typing=False, max_retries=1)
    @batch(size=4, linger='500ms')
    def halves(calls):
        """Half of each number; odd ones fail, and 0 is asked for again."""
        note('halves', [call.args[0] for call in calls])
        answers = []
        for call in calls:
            number = call.args[0]
            if number == 0:
                answers.append(Retry(after=0.1))
            elif number % 2:
                answers.append(ValueError(f'{number} is odd'))
            else:
                answers.append(number // 2 + call.kwargs.get('plus', 0))
        return answers

    @app.task(typing=False, bind=True, acks_late=True)
    @batch(size=8, linger='500ms')
    def unlucky(self, calls):
        numbers = [call.args[0] for call in calls]
        note('unlucky', numbers)
        if 13 in numbers:
            raise RuntimeError('13')
        return [self.name for _ in calls]


def _broken_request():
    from celery.worker.request import Request

    class Broken(Request):
        def on_failure(self, *_, **__):
            raise RuntimeError('this hook never works')

    return Broken


BrokenRequest = _broken_request()


@app.task(Request='gather:BrokenRequest')
def lost_without_a_hook():
    os.kill(os.getpid(), signal.SIGKILL)
