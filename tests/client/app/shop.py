"""The application of the client's tests. Its pool uses the broker that the environment names."""

import os
import time

from poolhouse import JobTimeout, Pool, Retry, current_job

pool = Pool()
#: Where jobs leave traces.
TRACES = os.environ.get("SHOP_TRACES", "")


def trace(word):
    with open(os.path.join(TRACES, "traces"), "a") as file:
        file.write(word + "\n")


@pool.task
def add(a, b=0):
    return a + b


@pool.task
def note(word):
    trace(word)


@pool.task(retries=2)
def flaky(name, failures=1):
    path = os.path.join(TRACES, f"flaky-{name}")
    with open(path, "a+") as file:
        file.write("x")
        if file.tell() <= failures:
            raise ValueError(f"run {file.tell()}")
    return "at last"


@pool.task
def fail(message):
    raise LookupError(message)


@pool.task(timeout="1s")
def overrun():
    try:
        while True:
            time.sleep(0.01)
    except JobTimeout:
        trace("caught a timeout")
        raise


@pool.task
def hold(name):
    """Runs until the file that releases it is there."""
    trace(f"holds {name}")
    while not os.path.exists(os.path.join(TRACES, f"release-{name}")):
        time.sleep(0.01)
    return name


@pool.task
def advance(name):
    """Tells how far it is, again and again, then holds."""
    for row in range(1, 10_001):
        current_job().progress(row / 20_000, f"row {row}")
    time.sleep(1)  # more was told than is passed on; by now there is room for one more
    current_job().progress(0.5, "half of the rows")
    return hold(name)


@pool.task
async def twice(number):
    return number * 2


@pool.task
def me():
    job = current_job()
    return [job.task, job.queue] if job else None


@pool.task
def summary(**told):
    return told


@pool.task
def spread(*numbers):
    return sum(numbers)


@pool.task
def enqueues(number):
    """A job that enqueues another one."""
    return add.enqueue(number, 1).id


class Stock:
    @staticmethod
    @pool.task
    def count(name):
        return len(name)


def undecorated(text):
    return text.upper()


@pool.task(retries=3)
def counts_its_runs(runs):
    attempt = current_job().attempt
    trace(f"run {attempt} of {runs}")
    if attempt < runs:
        raise Retry(after=0, reason=f"run {attempt}")
    return attempt


@pool.task
def later(reason):
    raise Retry(after=0, reason=reason)
