"""Ingests lines of JSON into PostgreSQL by way of a queue, and checks that each line is in the table exactly once.

Measures rows a second against the size of the batches, with 2 and with 4 workers, beside Celery with one row a message;
kills workers in the middle; writes a table and a plot. --quick: the ingest with the kills alone, in a few seconds.
"""

import argparse
import contextlib
import csv
import os
import random
import signal
import statistics
import sys
import tempfile
import time

import probe
import events
from servers import SETTINGS, Postgres, Redis, until
from workers import Celery, CeleryOnPool, Pool

SIZES = [1, 2, 5, 10, 20, 50, 100]
WORKERS = [2, 4]
POOL, DISCARDING, CELERY = "pool", "pool, rows thrown away", "Celery"
CELERY_ON_POOL = "pool, Celery tasks"
ROWS_MAX = 50_000
ROWS_A_SIZE = 5_000  # a run takes some seconds, whatever its batches
BATCHED_OVER_SINGLE_MIN = 6
BATCHED_OVER_CELERY_MIN = 10
SESSIONS_BUSY_MIN = 0.5  # of the time of the largest batches: below that the database is not what is waited for
KILLS = 6


class Bench:
    """The database and what every run on it has in common."""

    def __init__(self, directory, database, rows):
        self._directory = directory
        self.database = database
        self.rows = rows

    def place(self):
        """A directory for one run."""
        return tempfile.mkdtemp(dir=self._directory)

    def check(self, rows):
        """Each of these rows is in the table, exactly once, with its content; and nothing else is."""
        with self.database.connect() as db:
            found = db.execute(events.CHECKSUM_SQL).fetchone()
        expected = (len(rows), events.checksum(rows))
        if found != expected:
            raise SystemExit(f"error: the table has {found[0]} rows with checksum {found[1]}; expected {expected[0]} with {expected[1]}")

    def count_rows(self):
        with self.database.connect() as db:
            return db.execute("SELECT count(*) FROM events").fetchone()[0]

    def measure(self, workers, rows, is_stored=True):
        """Rows a second from the moment at which the workers may have the rows until all are in the table."""
        self.database.empty()
        with workers:
            begun = time.monotonic()
            workers.hold(rows)
            enqueued = time.monotonic() - begun
            cpu = self._cpu_seconds(workers)
            with probe.Sessions(self.database.connect) as sessions:
                begun = time.monotonic()
                workers.start()
                until(lambda: workers.has_ended(len(rows)), "all rows are done", seconds=600, pause=0.1)
                took = time.monotonic() - begun
            cores = {name: (used - cpu[name]) / took for name, used in self._cpu_seconds(workers).items()}
        if is_stored:
            self.check(rows)
        busy, log = sessions.shares()
        rates = {"enqueued/s": len(rows) / enqueued, "rows/s": len(rows) / took}
        return {**rates, "sessions busy": busy, "sessions in log writes": log, **cores}

    def _cpu_seconds(self, workers):
        """Processor time used so far, by who used it."""
        main, children = workers.processes()
        groups = {"database": probe.below(self.database.pid), "workers": children, "main": main}
        return {f"{name} cores": probe.cpu_seconds(pids) for name, pids in groups.items()}


def survive_kills(bench, workers, batch, count):
    """Kills a busy worker with SIGKILL again and again while it ingests."""
    rows = bench.rows[:count]
    chance = random.Random(0)
    bench.database.empty()
    with Pool(bench.place(), bench.database.dsn, workers, batch) as pool:
        pool.hold(rows)
        pool.start()
        for kill in range(1, KILLS + 1):
            until(lambda at=kill * count // (KILLS + 2): bench.count_rows() >= at, "the next worker is to be killed", pause=0.001)
            busy = until(pool.busy_workers, "a worker is busy", pause=0.001)
            os.kill(chance.choice(busy), signal.SIGKILL)
        until(lambda: pool.has_ended(count), "all rows are done", seconds=300)
        lost = pool.status()["lost"]
        log = pool.log()
    if not lost:
        raise SystemExit(f"error: {KILLS} kills hit no running job, which proves nothing\n{log}")
    bench.check(rows)
    with bench.database.connect() as db:
        offered = db.execute("SELECT last_value FROM events_arrival_seq").fetchone()[0]
    print(
        f"killed {KILLS} workers during an ingest of {count:,} rows ({workers} workers, batches of {batch}): "
        f"{lost} jobs ran again, {offered - count} rows were offered again, each row is in the table exactly once"
    )


def ingest_celery_tasks(bench, redis, count):
    """Messages of Celery's producer, run by a pool in batches."""
    rows = bench.rows[:count]
    bench.measure(CeleryOnPool(bench.place(), redis, bench.database.dsn, 2, SIZES[-1], bench.count_rows), rows)
    print(f"{count:,} messages of Celery were stored in batches by a pool, each row is in the table exactly once")


def measure_all(bench, redis, rounds):
    """A row of the table for each number of workers and each size, and for Celery: the medians of some rounds."""
    found = {}
    for number in range(rounds):
        for run, result in measure_once(bench, redis):
            found.setdefault(run, []).append(result)
            runner, workers, size = run
            print(f"round {number + 1}: {runner}, {workers} workers, {size} a call: {result['rows/s']:,.0f} rows/s", file=sys.stderr)
    return [
        {"runner": runner, "workers": workers, "rows a call": size}
        | {name: statistics.median(result[name] for result in results) for name in results[0]}
        for (runner, workers, size), results in found.items()
    ]


def measure_once(bench, redis):
    """One round of everything, run by run."""
    dsn = bench.database.dsn
    for workers in WORKERS:
        for size in SIZES:
            rows = bench.rows[: min(ROWS_MAX, ROWS_A_SIZE * size)]
            yield (POOL, workers, size), bench.measure(Pool(bench.place(), dsn, workers, size), rows)
        pool = Pool(bench.place(), dsn, workers, SIZES[-1], task="tasks.discard")
        yield (DISCARDING, workers, SIZES[-1]), bench.measure(pool, bench.rows, is_stored=False)
    for workers in WORKERS:
        peer = Celery(redis, dsn, workers, bench.count_rows)
        yield (CELERY, workers, 1), bench.measure(peer, bench.rows[:ROWS_A_SIZE])
        for size in (1, SIZES[-1]):
            pool = CeleryOnPool(bench.place(), redis, dsn, workers, size, bench.count_rows)
            yield (CELERY_ON_POOL, workers, size), bench.measure(pool, bench.rows[: ROWS_A_SIZE * min(size, 4)])


def report(table, bench):
    """The table for people, and what must hold; returns what does not."""
    settings = ", ".join(f"{name}={value}" for name, value in SETTINGS.items() if value)
    print(f"\nPostgreSQL {bench.database.version} ({settings}), {os.cpu_count()} cores, load average {os.getloadavg()[1]:.1f}\n")
    names = [name for name in table[0] if name != "runner"]
    print("| |" + " | ".join(names) + " |")
    print("|---|" + "---:|" * len(names))
    for row in table:
        print(f"| {row['runner']} | " + " | ".join(shown(name, row[name]) for name in names) + " |")
    print()
    wrong = []
    for what, value, least in claims(table):
        print(f"{what}: {value:.1f} (must be {least} or more)")
        if value < least:
            wrong.append(f"{what}: {value:.1f}, below {least}")
    return wrong


def claims(table):
    """What must hold for the largest batches: in words, the value, the least that it may be."""
    by_run = {(row["runner"], row["workers"], row["rows a call"]): row for row in table}
    for workers in WORKERS:
        batched = by_run[POOL, workers, SIZES[-1]]
        begin = f"{workers} workers, {SIZES[-1]} rows a call"
        single, peer = by_run[POOL, workers, 1], by_run[CELERY, workers, 1]
        same = by_run[CELERY_ON_POOL, workers, SIZES[-1]]
        yield f"{begin}: times one job a call", batched["rows/s"] / single["rows/s"], BATCHED_OVER_SINGLE_MIN
        yield f"{begin}: times Celery with one row a message", batched["rows/s"] / peer["rows/s"], BATCHED_OVER_CELERY_MIN
        yield f"{begin}, Celery tasks: times Celery", same["rows/s"] / peer["rows/s"], BATCHED_OVER_SINGLE_MIN
        yield f"{begin}: share of the time in which the database is busy", batched["sessions busy"], SESSIONS_BUSY_MIN


def shown(name, value):
    """A value of the table as people read it."""
    if name.startswith("sessions"):
        return f"{value:.0%}"
    return f"{value:.2f}" if name.endswith("cores") else f"{value:,.0f}"


def write_csv(table, path):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, table[0].keys())
        writer.writeheader()
        for row in table:
            writer.writerow({name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()})


def main():
    parser = argparse.ArgumentParser(prog="examples/ingest/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the ingest with the kills alone")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="measure everything so often; the table has the medians [3]")
    parser.add_argument("--output", default=".", metavar="DIR", help="where ingest.csv, ingest.svg and ingest.png go [.]")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.ExitStack() as stack:
        # Not in /tmp, which may be memory: commits are to reach a disk.
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="ingest-", dir="/var/tmp"))
        database = stack.enter_context(Postgres(directory))
        bench = Bench(directory, database, events.make(ROWS_MAX))
        survive_kills(bench, workers=4, batch=10 if options.quick else 50, count=10_000 if options.quick else ROWS_MAX)
        with Redis(bench.place()) as redis:
            ingest_celery_tasks(bench, redis, count=3_000)
            if options.quick:
                return
            table = measure_all(bench, redis, options.rounds)
        wrong = report(table, bench)
    import plot

    write_csv(table, os.path.join(options.output, "ingest.csv"))
    plot.draw(table, options.output)
    if wrong:
        raise SystemExit("error: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
