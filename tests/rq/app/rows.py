"""Batch tasks: `pool_job` is there inside a pool only, so the tests enqueue them by name.

Each call notes how many jobs it got. An argument says what is to become of its job.
"""

import os
import signal
import time

import jobs
from pool_job import Call, batch, current_jobs
from rq import Retry, get_current_job

SINGLE = 'ROWS_SINGLE' in os.environ


def outcome(what, times=1):
    """What a job of this argument returns or raises."""
    if what == 'fail':
        raise ValueError('no luck')
    if what == 'retry':
        return Retry(max=1, interval=100)
    return what * times


def answer(call):
    try:
        return outcome(*call.args, **call.kwargs)
    except ValueError as error:
        return error


def insert_all(calls):
    jobs.note(f'calls {len(calls)}')
    return [answer(call) for call in calls]


if SINGLE:

    def insert(*args, **kwargs):
        """The same as a function of one job."""
        return outcome(*args, **kwargs)
else:

    @batch(size=4, linger='100ms')
    def insert(calls):
        return insert_all(calls)


@batch(size=4, linger='100ms')
async def insert_later(calls):
    return insert_all(calls)


@batch(size=8, linger='100ms')
def insert_all_or_none(calls):
    jobs.note(f'calls {len(calls)}')
    if any(call.args == ('poison',) for call in calls):
        raise ValueError('poisoned')
    return [call.args[0] for call in calls]


@batch(size=4, linger='100ms')
def die_once(calls):
    if jobs.redis().incr('deaths') == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return insert_all(calls)


@batch(size=4, linger='100ms')
def overrun(calls):
    time.sleep(60)


@batch(size=4, linger='60s')
def gather(calls):
    return insert_all(calls)


@batch(size=4, linger='100ms')
def hold(calls):
    """Runs until the list `gate` has an element."""
    jobs.hold(result=None)
    return insert_all(calls)


@batch(size=2, linger='100ms')
def who(calls):
    assert all(isinstance(call, Call) for call in calls) and get_current_job() is None
    return [job.id for job in current_jobs()]
