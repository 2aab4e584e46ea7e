"""Jobs that use what `pool_job` has: it is there inside a pool only, so the tests enqueue them by name."""

import time

import jobs
from pool_job import JobTimeout, Retry
from rq import get_current_job


def ask_again(after):
    raise Retry(after=after, reason='the site is busy')


def change_and_ask_again(after):
    """Changes its own job, so that RQ's code ends it."""
    get_current_job().description = 'changed'
    ask_again(after)


def outlast():
    try:
        time.sleep(60)
    except JobTimeout:
        jobs.note('caught')
        raise
