#!/usr/bin/env python3
"""How long lists and searches take over very many jobs: `scripts/bench lists [sqlite] [rq]`.

Each broker is filled in bulk with dead letters and waiting jobs, of which none is run. Then each list is asked for several
times by the program, process start included. Meanwhile the supervisor is asked again and again over its control socket whether
all is well: that is its loop's delay. Figures go to standard output as a Markdown table. It ends with status 1 if a list takes more than 300 ms at the 95th percentile, or if the supervisor's answer takes
more than 20 ms longer at the 95th percentile than without lists.

--waiting N, --dead N: how many. POOL_BIN names the binary, target/release/pool by default.
"""

import argparse
import contextlib
import json
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib

from support import child
from support.server import RedisServer

POOL = os.path.abspath(os.environ.get("POOL_BIN", "target/release/pool"))
LIMIT_MS, DELAY_MS = 300, 20
ROUNDS = 20
ERROR = {"kind": "OSError", "message": "disk full", "detail": "Traceback (most recent call last):\n  ...\nOSError: disk full"}
ARGUMENTS = '{{"to": "user{}@example.org", "order": {{"id": {}}}}}'


def job_id(number):
    """Ids that begin in many ways, each of its own."""
    return f"{number * 2654435761 % 2**32:08x}-{number:08d}"


def fill_sqlite(path, waiting, dead):
    """A file as the program makes it, with the rows that it would have written."""
    subprocess.run([POOL, "enqueue", "noop", "--broker", f"sqlite:{path}"], check=True, stdout=subprocess.DEVNULL)
    with contextlib.closing(sqlite3.connect(path)) as file:
        now, total = time.time_ns() // 1_000_000, waiting + dead
        file.execute("PRAGMA synchronous = OFF")
        first = file.execute("UPDATE sequence SET last = last + ? RETURNING last", (total,)).fetchone()[0] - total
        rows = lambda count, make: (make(number, first + 1 + number) for number in count)
        file.executemany(
            "INSERT INTO jobs (handle, id, queue, task, enqueued, payload) VALUES (?, ?, 1, 'mail.send', ?, ?)",
            rows(range(total), lambda n, handle: (handle, job_id(n), now - 1000 + n // 1000, ARGUMENTS.format(n, n).encode())),
        )
        file.executemany("INSERT INTO waiting VALUES (1, ?, ?, ?, 0)", rows(range(waiting), lambda n, handle: (handle, handle, now)))
        lost = range(waiting, total)
        file.executemany("INSERT INTO dead (handle, ended, epoch) VALUES (?, ?, 1)", rows(lost, lambda n, handle: (handle, now + n // 100)))
        error = json.dumps(ERROR)
        file.executemany(
            "INSERT INTO attempts (handle, failures, losses, error) VALUES (?, 1, 0, ?)", rows(lost, lambda n, handle: (handle, error))
        )
        file.execute("UPDATE queues SET waiting = waiting + ?", (waiting,))
        file.commit()
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def in_pipelines(client, count, add, size=5_000):
    for begin in range(0, count, size):
        pipe = client.pipeline(transaction=False)
        for number in range(begin, min(begin + size, count)):
            add(pipe, number)
        pipe.execute()


def fill_rq(server, waiting, dead):
    """Hashes, a list and a sorted set as rq writes them."""
    from rq.job import Job

    with server.client() as client:
        job = Job.create("rq_tasks.noop", kwargs={"to": "user@example.org"}, connection=client, origin="mail")
        pattern, now = job.to_dict(), int(time.time())
        client.sadd("rq:queues", "rq:queue:mail")
        failed = dict(pattern, status="failed", ended_at=pattern["created_at"], exc_info=zlib.compress(ERROR["detail"].encode()))
        queued = dict(pattern, status="queued", enqueued_at=pattern["created_at"])

        def add(pipe, number):
            id = job_id(number)
            pipe.hset(f"rq:job:{id}", mapping=queued if number < waiting else failed)
            if number < waiting:
                pipe.rpush("rq:queue:mail", id)
            else:
                pipe.zadd("rq:failed:mail", {id: now + 31_536_000 + number // 1000})

        in_pipelines(client, waiting + dead, add)


@contextlib.contextmanager
def supervisor(flags, env, path):
    """One that serves another queue than the jobs are in."""
    command = [POOL, "run", "--queue", "elsewhere", "--socket", path, *flags]
    process = child.start(command, env=env, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while not asked(path):
            if time.monotonic() > end or process.poll() is not None:
                sys.exit(f"no supervisor answers: {' '.join(command)}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def asked(path):
    """How long the supervisor takes to say whether all is well, in ms; None: it does not answer."""
    began = time.perf_counter()
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(path)
            connection.sendall(b'{"request":"health"}\n')
            return (time.perf_counter() - began) * 1000 if connection.recv(65536) else None
    except OSError:
        return None


def p95(values):
    return statistics.quantiles(values, n=20)[18]


LISTS = {
    "jobs, all states": ["jobs"],
    "jobs that wait": ["jobs", "--state", "waiting"],
    "dead letters": ["jobs", "--state", "dead"],
    "500 dead letters": ["jobs", "--state", "dead", "--limit", "500"],
    "search: task": ["jobs", "--state", "waiting", "--task", "no.such.task"],
    "search: argument": ["jobs", "--state", "waiting", "--arg", "to=nobody"],
    "search: error": ["jobs", "--state", "dead", "--error", "no such error"],
    "search: all states": ["jobs", "--arg", "to=nobody"],
    "queues": ["queues"],
}


def measure(broker, where, env, path):
    """The table's rows of a broker, and whether all is within the limits."""
    places = [*where, "--socket", path]

    def call(name, words):
        """How long it took in ms, and whether anything stood below the headings."""
        began = time.perf_counter()
        ended = subprocess.run([POOL, *words, *places], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        took = (time.perf_counter() - began) * 1000
        if ended.returncode:
            sys.exit(f"{broker}, {name}: {ended.stderr.decode()}")
        return took, ended.stdout.count(b"\n") > 1

    quiet, loud, done = [], [], threading.Event()
    for _ in range(200):
        quiet.append(asked(path))
        time.sleep(0.005)

    def listen():
        while not done.wait(0.005):
            loud.append(asked(path))

    listener = threading.Thread(target=listen)
    listener.start()
    good = True
    try:
        for name, words in LISTS.items():
            took, listed = zip(*(call(name, words) for _ in range(ROUNDS)))
            if not name.startswith("search") and not any(listed):
                sys.exit(f"{broker}, {name}: nothing was listed")
            good &= p95(took) <= LIMIT_MS
            print(f"| {broker} | {name} | {statistics.median(took):.0f} | {p95(took):.0f} |", flush=True)
    finally:
        done.set()
        listener.join()
    delay = p95(loud) - p95(quiet)
    good &= delay <= DELAY_MS
    print(f"| {broker} | supervisor, p95: {p95(quiet):.1f} alone, during lists | | {p95(loud):.1f} |", flush=True)
    return good


def run(broker, options):
    env = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="pool-lists-") as directory:
        path = f"{directory}/pool.sock"
        if broker == "sqlite":
            fill_sqlite(f"{directory}/jobs.db", options.waiting, options.dead)
            where = ["--broker", f"sqlite:{directory}/jobs.db"]
            with supervisor(where, env, path):
                return measure(broker, where, env, path)
        server = RedisServer()
        try:
            fill_rq(server, options.waiting, options.dead)
            where = ["--broker", server.url]
            with supervisor([*where, "--runtime", "rq", "--preload", "rq_tasks", "--python", sys.executable], env, path):
                return measure(broker, where, env, path)
        finally:
            server.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("brokers", nargs="*", metavar="BROKER", default=["sqlite", "rq"], help="sqlite, rq: by default both")
    parser.add_argument("--waiting", type=int, default=1_000_000)
    parser.add_argument("--dead", type=int, default=200_000)
    options = parser.parse_args()
    if unknown := set(options.brokers) - {"sqlite", "rq"}:
        parser.error(f"no such broker: {', '.join(sorted(unknown))}")
    print(f"{options.waiting:,} waiting jobs, {options.dead:,} dead letters; {ROUNDS} rounds\n")
    print("| broker | list | median, ms | p95, ms |\n|---|---|---:|---:|", flush=True)
    results = [run(broker, options) for broker in options.brokers]
    sys.exit(0 if all(results) else f"above {LIMIT_MS} ms, or the supervisor was delayed by more than {DELAY_MS} ms")


if __name__ == "__main__":
    main()
