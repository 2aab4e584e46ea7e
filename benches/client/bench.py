#!/usr/bin/env python3
"""How many jobs a second Python enqueues: `scripts/bench client [--jobs N] [--turns N]`.

The client on the embedded broker (without fsync) and on Redis, beside huey with SQLite and RQ with Redis; one by one, and many in
one call. The peers take turns; the median of each counts. No worker runs. Needs redis-server.

Figures go to standard output as a Markdown table.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../python"))

from huey import SqliteHuey  # noqa: E402
from poolhouse import Pool  # noqa: E402
from redis import Redis  # noqa: E402
from rq import Queue  # noqa: E402
from support.server import RedisServer  # noqa: E402

TASK = "shop.resize"


def resize(path, width):
    return path, width


class Client:
    """This project's client."""

    def __init__(self, name, url):
        self.name = name
        self.pool = Pool(url)
        self.task = self.pool.task(resize)

    def one_by_one(self, count):
        enqueue = self.task.enqueue
        for number in range(count):
            enqueue(path="a.png", width=number)

    def many(self, count):
        self.task.enqueue_many({"path": "a.png", "width": number} for number in range(count))


class Huey:
    """huey with its SQLite storage; it has no call for many."""

    name = "huey, SQLite"
    many = None

    def __init__(self, directory):
        # As its documentation recommends for speed: no fsync.
        self.huey = SqliteHuey(filename=f"{directory}/huey.db", fsync=False)
        self.task = self.huey.task()(resize)

    def one_by_one(self, count):
        for number in range(count):
            self.task(path="a.png", width=number)


class Rq:
    """RQ's own producer."""

    name = "RQ, Redis"

    def __init__(self, url):
        self.queue = Queue(connection=Redis.from_url(url))

    def one_by_one(self, count):
        for number in range(count):
            self.queue.enqueue_call(TASK, kwargs={"path": "a.png", "width": number})

    def many(self, count):
        prepare = Queue.prepare_data
        self.queue.enqueue_many(
            [prepare(TASK, kwargs={"path": "a.png", "width": number}) for number in range(count)]
        )


def measure(enqueue, count):
    """Jobs a second."""
    began = time.perf_counter()
    enqueue(count)
    return count / (time.perf_counter() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=5_000, help="one by one; ten times as many in one call (default: 5000)")
    parser.add_argument("--turns", type=int, default=3, help="of each peer (default: 3)")
    options = parser.parse_args()
    server = RedisServer()
    try:
        with tempfile.TemporaryDirectory() as directory:
            peers = [
                Client("poolhouse, SQLite", f"sqlite:{directory}/pool.db"),
                Huey(directory),
                Client("poolhouse, Redis", server.url),
                Rq(server.url),
            ]
            figures = {(peer, way): [] for peer in peers for way in ("one_by_one", "many")}
            for _ in range(options.turns):
                for (peer, way), found in figures.items():
                    enqueue = getattr(peer, way)
                    # Redis takes so many words in one script.
                    count = options.jobs if way == "one_by_one" or "Redis" in peer.name else 10 * options.jobs
                    if enqueue is not None:
                        found.append(measure(enqueue, count))
            print("| | one by one, jobs/s | in one call, jobs/s |\n| --- | ---: | ---: |")
            for peer in peers:
                medians = [figures[peer, way] for way in ("one_by_one", "many")]
                cells = [f"{statistics.median(found):,.0f}" if found else "" for found in medians]
                print(f"| {peer.name} | {' | '.join(cells)} |")
    finally:
        server.stop()


if __name__ == "__main__":
    main()
