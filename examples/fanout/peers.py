"""The same ten subtasks with RQ or Celery: `peers.py WAY RUNS`, started by `run`; the ways are those of WAYS.

Counts the Redis commands of the waiting client from after the jobs were enqueued, this process or `pool wait`; where results
are in a database, its queries. Prints a JSON line a run.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import redis.connection
from support import child
from support.places import control_socket
from support.server import RedisServer

import subtask

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
SUBTASKS = range(10)
POLL = 0.05


class Counting:
    """Passes a client's commands on to a redis-server, and counts them. Source: RESP, arrays of bulk strings."""

    def __init__(self, server):
        self.sent, self.server = 0, server
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.url = f'redis://127.0.0.1:{self.listener.getsockname()[1]}/0'
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(('127.0.0.1', self.server.port))
            threading.Thread(target=self._commands, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answers, args=(server, client), daemon=True).start()

    def _commands(self, client, server):
        read = client.makefile('rb')
        while head := read.readline():
            command = head
            for _ in range(int(head[1:])):
                length = read.readline()
                command += length + read.read(int(length[1:]) + 2)
            self.sent += 1
            server.sendall(command)
        server.shutdown(socket.SHUT_RDWR)

    def _answers(self, server, client):
        while data := server.recv(65536):
            client.sendall(data)


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


class Queries:
    """Queries that this process sends to a database, by the hook that every one of them goes through."""

    def __init__(self):
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        self.sent = 0
        event.listen(Engine, 'before_cursor_execute', self._counted)

    def _counted(self, *_):
        self.sent += 1


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


def group_of_celery():
    import celery_app
    from celery import group

    return group(celery_app.square.s(n) for n in SUBTASKS).apply_async()


def celery(server, enqueued):
    waiting = group_of_celery()
    enqueued()
    return waiting.get(timeout=60)


def celery_polls(server, enqueued):
    waiting = group_of_celery()
    enqueued()
    while not waiting.ready():
        time.sleep(POLL)
    return waiting.get(timeout=60)


def celery_counts(server, enqueued):
    """As a client that shows how far it is."""
    waiting = group_of_celery()
    enqueued()
    while waiting.completed_count() < len(SUBTASKS):
        time.sleep(POLL)
    return waiting.get(timeout=60)


def celery_pool_wait(server, enqueued):
    """The tasks of Celery's producer, waited for by pool's own client."""
    waiting = group_of_celery()
    counting = Counting(server)
    enqueued(counting)
    environment = {**os.environ, 'FANOUT_REDIS': counting.url, 'POOL_PYTHON': sys.executable}
    command = [os.environ['POOL_BIN'], 'wait', '--broker', 'app:celery_app', *[result.id for result in waiting]]
    done = subprocess.run(command, env=environment, cwd=HERE, check=True, stdout=subprocess.PIPE, text=True)
    ended = {job['id']: job['result'] for job in map(json.loads, done.stdout.splitlines())}
    return [ended[result.id] for result in waiting]


WAYS = {
    'rq-polls': rq_polls,
    'rq-blocks': rq_blocks,
    'celery': celery,
    'celery-database': celery,
    'celery-database-counts': celery_counts,
    'celery-on-pool': celery,
    'celery-on-pool-polls': celery_polls,
    'celery-on-pool-wait': celery_pool_wait,
    'celery-on-pool-database': celery,
}


@contextlib.contextmanager
def workers(way, server):
    """Ten of them, started and ready."""
    environment = {**os.environ, 'PYTHONPATH': str(HERE)}
    if way.startswith('celery-on-pool'):
        line = ['celery', '-A', 'celery_app', 'worker', '-c', '10', '--loglevel', 'error', '--python', sys.executable]
        command = [os.environ['POOL_BIN'], *line, '--socket', control_socket()]
    elif way.startswith('celery'):
        command = [f'{BIN}/celery', '-A', 'celery_app', 'worker', '-c', '10', '--loglevel', 'error']
    else:
        command = [f'{BIN}/rq', 'worker-pool', '--url', server.url, '-n', '10', 'fanout']
    quiet = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}
    process = child.start(command, env=environment, cwd=HERE, **quiet)
    try:
        WAYS[way](server, lambda *_: None)  # all have come up when ten at a time have run
        yield
    finally:
        process.terminate()
        process.wait(60)


def main():
    way, runs = sys.argv[1], int(sys.argv[2])
    is_in_database = 'database' in way
    count = Queries() if is_in_database else Count()
    server, directory = RedisServer(), tempfile.TemporaryDirectory(prefix='fanout-')
    os.environ['FANOUT_REDIS'] = server.url
    if is_in_database:
        os.environ['FANOUT_RESULTS'] = f'db+sqlite:///{directory.name}/results.db'
    try:
        with workers(way, server):
            for _ in range(runs):
                counted, before = [count], []

                def enqueued(instead=None):
                    counted[0] = instead or count
                    before.append(counted[0].sent)

                results = WAYS[way](server, enqueued)
                woken = time.time()
                if [value for value, _ in results] != [n * n for n in SUBTASKS]:
                    raise SystemExit(f'error: {results}')
                late = woken - max(ended for _, ended in results)
                print(json.dumps({'asked': counted[0].sent - before[0], 'late_ms': late * 1000}), flush=True)
    finally:
        server.stop()
        directory.cleanup()


if __name__ == '__main__':
    main()
