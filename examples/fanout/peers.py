"""The same ten subtasks with RQ or Celery: `peers.py rq-polls|rq-blocks|celery RUNS`, started by `run`.

Counts the Redis commands of this process, which is the waiting client, from after the jobs were enqueued; prints a
JSON line a run.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import redis.connection
from support import child
from support.server import RedisServer

import subtask

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
SUBTASKS = range(10)
POLL = 0.05


class Count:
    """Commands that this process sends, by the packer that every one of them goes through."""

    def __init__(self):
        self.sent = 0
        packer = redis.connection.PythonRespSerializer
        pack = packer.pack

        def counted(serializer, *args):
            self.sent += 1
            return pack(serializer, *args)

        packer.pack = counted


def rq_queue(server):
    from rq import Queue

    return Queue('fanout', connection=server.client())


def rq_polls(server, enqueued):
    jobs = [rq_queue(server).enqueue(subtask.square, n) for n in SUBTASKS]
    enqueued()
    while any((results := [job.return_value(refresh=True) for job in jobs])[at] is None for at in SUBTASKS):
        time.sleep(POLL)
    return results


def rq_blocks(server, enqueued):
    jobs = [rq_queue(server).enqueue(subtask.square, n) for n in SUBTASKS]
    enqueued()
    return [job.latest_result(timeout=60).return_value for job in jobs]


def celery(server, enqueued):
    import celery_app
    from celery import group

    waiting = group(celery_app.square.s(n) for n in SUBTASKS).apply_async()
    enqueued()
    return waiting.get(timeout=60)


WAYS = {'rq-polls': rq_polls, 'rq-blocks': rq_blocks, 'celery': celery}


@contextlib.contextmanager
def workers(way, server):
    """Ten of them, started and ready."""
    environment = {**os.environ, 'PYTHONPATH': str(HERE)}
    if way == 'celery':
        command = [f'{BIN}/celery', '-A', 'celery_app', 'worker', '-c', '10', '--loglevel', 'error']
    else:
        command = [f'{BIN}/rq', 'worker-pool', '--url', server.url, '-n', '10', 'fanout']
    quiet = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}
    process = child.start(command, env=environment, cwd=HERE, **quiet)
    try:
        WAYS[way](server, lambda: None)  # all have come up when ten at a time have run
        yield
    finally:
        process.terminate()
        process.wait(60)


def main():
    way, runs = sys.argv[1], int(sys.argv[2])
    count = Count()
    server = RedisServer()
    os.environ['FANOUT_REDIS'] = server.url
    try:
        with workers(way, server):
            for _ in range(runs):
                before = []
                results = WAYS[way](server, lambda: before.append(count.sent))
                woken = time.time()
                if [value for value, _ in results] != [n * n for n in SUBTASKS]:
                    raise SystemExit(f'error: {results}')
                late = woken - max(ended for _, ended in results)
                print(json.dumps({'asked': count.sent - before[0], 'late_ms': late * 1000}), flush=True)
    finally:
        server.stop()


if __name__ == '__main__':
    main()
