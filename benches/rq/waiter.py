"""Waits for jobs as the users of a library do, in a process of its own: `waiter.py KIND ID…`. Prints when it was over.

KIND: `polling` asks RQ for the state of each job, every 50 ms; `latest_result` blocks on RQ's results, one job after
the other; `celery` joins the results of Celery.
"""

import os
import sys
import time

POLL_S = 0.05


def polling(ids):
    from rq.job import Job

    jobs = Job.fetch_many(ids, connection=redis())
    while not all([job.get_status() == 'finished' for job in jobs]):
        time.sleep(POLL_S)


def latest_result(ids):
    from rq.job import Job

    for job in Job.fetch_many(ids, connection=redis()):
        job.latest_result(timeout=60)


def celery(ids):
    from celery.result import AsyncResult, ResultSet

    from celery_tasks import app

    ResultSet([AsyncResult(id, app=app) for id in ids]).join(timeout=60)


def redis():
    from redis import Redis

    return Redis.from_url(os.environ['BENCH_URL'] + '/0', socket_timeout=None)


if __name__ == '__main__':
    {'polling': polling, 'latest_result': latest_result, 'celery': celery}[sys.argv[1]](sys.argv[2:])
    print(time.time())
