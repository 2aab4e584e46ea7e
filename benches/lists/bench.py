#!/usr/bin/env python3
"""How long lists and searches take over very many jobs: `scripts/bench lists [sqlite] [rq] [celery] [rabbitmq]`.

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
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from brokers import BROKERS, POOL
from support import child

LIMIT_MS, DELAY_MS = 300, 20
ROUNDS = 20


@contextlib.contextmanager
def supervisor(broker, env, path):
    """One that serves another queue than the jobs are in."""
    command = [*broker.supervisor, "--socket", path]
    process = child.start(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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


#: By what they look for; the words of a broker that has no such jobs to show are in its `lacks`.
LISTS = {
    "jobs, all states": ["jobs"],
    "jobs that wait": ["jobs", "--state", "waiting"],
    "dead letters": ["jobs", "--state", "dead"],
    "500 dead letters": ["jobs", "--state", "dead", "--limit", "500"],
    "pool dead list": ["dead", "list"],
    "search: task": ["jobs", "--state", "waiting", "--task", "no.such.task"],
    "search: argument": ["jobs", "--state", "waiting", "--arg", "to=nobody"],
    "search: error": ["jobs", "--state", "dead", "--error", "no such error"],
    "search: all states": ["jobs", "--arg", "to=nobody"],
    "queues": ["queues"],
    "status": ["status"],
}
#: A search that goes on from where it ended: so many times.
STEPS = 60


class Measured:
    """How long each list of a broker takes."""

    def __init__(self, name, broker, env, path):
        self.name, self.broker, self.env = name, broker, env
        self.places = [*broker.where, "--socket", path]
        self.is_good = True

    def call(self, words):
        """How long it took in ms, and what it printed."""
        places = self.places if words[0] != "status" else self.places[-2:]
        if words[0] == "jobs":
            places = [*self.broker.narrow, *places]
        began = time.perf_counter()
        ended = subprocess.run([POOL, *words, *places], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        took = (time.perf_counter() - began) * 1000
        if ended.returncode:
            sys.exit(f"{self.name}, {' '.join(words)}: {ended.stderr.decode()}")
        return took, ended.stdout.decode()

    def row(self, what, took):
        self.is_good &= p95(took) <= LIMIT_MS
        print(f"| {self.name} | {what} | {statistics.median(took):.0f} | {p95(took):.0f} |", flush=True)

    def all(self):
        for what, words in LISTS.items():
            if what in self.broker.lacks:
                continue
            took, printed = zip(*(self.call(words) for _ in range(ROUNDS)))
            if not what.startswith("search") and not any(text.count("\n") > 1 for text in printed):
                sys.exit(f"{self.name}, {what}: nothing was listed")
            self.row(what, took)
        self.to_the_end()

    def to_the_end(self):
        """One search through all jobs, step by step."""
        took, searched, after = [], 0, []
        while len(took) < STEPS:
            each, printed = self.call(["jobs", "--arg", "to=nobody", "--json", *after])
            took.append(each)
            if not printed:
                break
            more = json.loads(printed.splitlines()[-1])
            searched += more["searched"]
            after = ["--after", more["next"]]
        self.row(f"search: on and on, over {searched:,} in {len(took)} steps", took)


def measure(name, broker, env, path):
    """The table's rows of a broker, and whether all is within the limits."""
    quiet, loud, done = [], [], threading.Event()
    for _ in range(200):
        quiet.append(asked(path))
        time.sleep(0.005)

    def listen():
        while not done.wait(0.005):
            loud.append(asked(path))

    listener = threading.Thread(target=listen)
    listener.start()
    lists = Measured(name, broker, env, path)
    try:
        lists.all()
    finally:
        done.set()
        listener.join()
    delay = p95(loud) - p95(quiet)
    print(f"| {name} | supervisor, p95: {p95(quiet):.1f} alone, during lists | | {p95(loud):.1f} |", flush=True)
    return lists.is_good and delay <= DELAY_MS


def run(name, options):
    with contextlib.ExitStack() as ends:
        directory = ends.enter_context(tempfile.TemporaryDirectory(prefix="pool-lists-"))
        broker = BROKERS[name]()
        ends.callback(broker.stop)
        began = time.monotonic()
        broker.fill(options.waiting, options.dead)
        print(f"{name}: filled in {time.monotonic() - began:.0f} s", file=sys.stderr)
        path, env = f"{directory}/pool.sock", {**os.environ, **broker.environment}
        ends.enter_context(supervisor(broker, env, path))
        return measure(name, broker, env, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("brokers", nargs="*", metavar="BROKER", default=list(BROKERS), help=f"{', '.join(BROKERS)}: by default all")
    parser.add_argument("--waiting", type=int, default=1_000_000)
    parser.add_argument("--dead", type=int, default=200_000)
    options = parser.parse_args()
    if unknown := set(options.brokers) - set(BROKERS):
        parser.error(f"no such broker: {', '.join(sorted(unknown))}")
    print(f"{options.waiting:,} waiting jobs, {options.dead:,} dead letters; {ROUNDS} rounds\n")
    print("| broker | list | median, ms | p95, ms |\n|---|---|---:|---:|", flush=True)
    results = [run(broker, options) for broker in options.brokers]
    sys.exit(0 if all(results) else f"above {LIMIT_MS} ms, or the supervisor was delayed by more than {DELAY_MS} ms")


if __name__ == "__main__":
    main()
