"""Measures the Python runtime: what a fork costs, what a job costs beside its own work, what workers cost in memory,
and forks and jobs with preloaded objects that are immortal and that are not.

    scripts/bench python                 all four
    scripts/bench python fork|jobs|memory|immortal
    POOL_TEST_PYTHON=/usr/bin/python3.9 scripts/bench python jobs

It plays the supervisor (tests/python/supervisor.py), so that only the runtime is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "python"))

import test_memory  # noqa: E402
from supervisor import CARRIED, PYTHON, Template, Worker  # noqa: E402

FORKS = 50
JOBS = 50_000
#: Frames that wait at the worker, so that it never waits for us.
AHEAD = 64

#: 250 MB of small objects, in a list that was made at its full length.
HEAP = "held = [None] * 1_330_000\nfor i in range(len(held)): held[i] = {'i': 1000 + i} if i % 2 else str(i) * 8\n"
PLAIN_FORK = """
import gc, os, sys, time
sys.path.insert(0, sys.argv[1])
from pool_template.memory import huge_pages
exec(sys.argv[2])
gc.collect()
gc.freeze()
def fork_ms(forks):
    taken = []
    for _ in range(forks):
        begun = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        taken.append(time.perf_counter() - begun)
    return 1000 * min(taken), 1000 * sorted(taken)[forks // 2]
resident = int(open('/proc/self/statm').read().split()[1]) * 4096
before = fork_ms(int(sys.argv[3]))
begun = time.perf_counter()
done, skipped = huge_pages.collapse_heap()
print(resident, *before)
print(done, time.perf_counter() - begun, *fork_ms(int(sys.argv[3])), skipped or '')
"""
APP = """
def noop(): pass
def add(a, b): return a + b
def read():
    for thing in held[:10_000]: len(thing)
"""
#: What workers run with immortal objects and without: the task, and how many jobs a turn has.
READERS = {"a job that does nothing": (b"app.noop", 20_000), "one that reads 10,000 objects": (b"app.read", 1_000)}
TURNS = 9


def fork() -> None:
    """Fork + exit + wait, of the heap as it is and collapsed; then from `fork` to Ready."""
    command = [PYTHON, "-c", PLAIN_FORK, str(CARRIED), HEAP, str(FORKS)]
    plain, change = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    resident, best, median = map(float, plain.split())
    print(f"fork: {FORKS} times, in ms                     best  median")
    print(f"  fork + exit + wait of a process of {resident / 1e6:.0f} MB")
    print(f"    small pages                     {best:6.2f}  {median:6.2f}")
    done, taken, best_then, median_then, *skipped = change.split(maxsplit=4)
    if int(done):
        ratio = f"{best / float(best_then):.1f} and {median / float(median_then):.1f} times cheaper"
        print(f"    huge pages                      {float(best_then):6.2f}  {float(median_then):6.2f}   {ratio}")
        print(f"    ({int(done) / 1e6:.0f} MB, once, in {float(taken) * 1000:.0f} ms)")
    else:
        print(f"    huge pages: not so: {skipped[0]}")
    print("  from `fork` to Ready, by a template of that size")
    for huge_pages in (False, True):
        with Template({"app.py": HEAP}) as template:
            template.ready("app", huge_pages=huge_pages)
            taken_ms = [fork_to_ready_ms(template) for _ in range(FORKS)]
        pages = "huge" if huge_pages else "small"
        print(f"    {pages:5} pages                     {min(taken_ms):6.2f}  {statistics.median(taken_ms):6.2f}")


def jobs() -> None:
    """What a job costs its worker beside its own work."""
    print(f"jobs: {JOBS} jobs, {AHEAD} waiting at the worker, microseconds of its processor time each")
    with Template({"app.py": APP}) as template:
        worker = template.ready("app").worker()
        for name, task, timeout_ms, payload in (
            ("no arguments, no timeout", b"app.noop", 0, b""),
            ("no arguments, a timeout", b"app.noop", 180_000, b""),
            ('{"a": 1, "b": 2} -> 3', b"app.add", 0, b'{"a": 1, "b": 2}'),
        ):
            used, wall = stream(worker, packet(task, timeout_ms, payload), JOBS)
            print(f"  {name:26} {used:5.2f} us   ({JOBS / wall:,.0f} jobs a second through one worker)")


def packet(task: bytes, timeout_ms: int = 0, payload: bytes = b"") -> bytes:
    """The frame of a job."""
    names = (b"0197f000-0000-7000-8000-000000000000", b"default", task)
    fixed = struct.pack("<QQIHHHxxB3x", 1, timeout_ms, 1, *map(len, names), 0)
    return b"\x02\x01\x00\x00" + fixed + b"".join(names) + payload


def stream(worker: Worker, packet: bytes, jobs: int) -> tuple[float, float]:
    """Microseconds of a worker's processor time for each of so many equal jobs, and the seconds that all took."""
    exchange, sock = [None] * jobs, worker.socket
    sock.settimeout(None)
    for _ in range(AHEAD):
        sock.send(packet)
    cpu, begun = on_cpu_ns(worker.pid), time.perf_counter()
    for _ in exchange:
        sock.recv(4096)
        sock.send(packet)
    wall = time.perf_counter() - begun
    used = on_cpu_ns(worker.pid) - cpu
    for _ in range(AHEAD):
        sock.recv(4096)
    return used / jobs / 1000, wall


def immortal() -> None:
    """Forks and warm jobs of two templates side by side, with immortal objects and without: in turns, so that a slow
    minute of the machine counts for both."""
    kinds = {"counted": False, "immortal": True}
    costs: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in kinds} for name in ("fork", *READERS)}
    with contextlib.ExitStack() as stack:
        templates = {kind: stack.enter_context(Template({"app.py": HEAP + APP})) for kind in kinds}
        for kind, template in templates.items():
            report = template.load("app", immortal=kinds[kind])
            if kinds[kind] and report["immortal_skipped"]:
                return print(f"immortal: not so: {report['immortal_skipped']}")
        for _ in range(FORKS):
            for kind, template in templates.items():
                costs["fork"][kind].append(fork_to_ready_ms(template))
        workers = {kind: template.worker() for kind, template in templates.items()}
        for name, (task, count) in READERS.items():
            for turn in range(TURNS + 1):
                for kind, worker in workers.items():
                    used, _ = stream(worker, packet(task), count)
                    costs[name][kind] += [used] if turn else []  # The first turn is not warm.
    print(f"immortal: medians of {FORKS} forks and of {TURNS} turns    counted  immortal  ratio")
    for name, cost in costs.items():
        counted, immortal = (statistics.median(cost[kind]) for kind in kinds)
        unit = "ms" if name == "fork" else "us"
        what = "from `fork` to Ready" if name == "fork" else f"{name}, processor time"
        print(f"  {what:42} {counted:8.2f}  {immortal:8.2f} {unit}  {immortal / counted:.2f}")


def fork_to_ready_ms(template: Template) -> float:
    """How long a template takes until its new worker takes jobs."""
    begun = time.perf_counter()
    worker = template.fork().wait_ready()
    taken = time.perf_counter() - begun
    worker.hang_up()
    template.status_of(worker)
    return 1000 * taken


def memory() -> None:
    """PSS of eight workers beside eight processes that load the same by themselves."""
    together, single, own = test_memory.measure()
    workers = test_memory.WORKERS
    print(f"memory: PSS after {workers * test_memory.JOBS_EACH} jobs that read a tenth of what was loaded")
    print(f"  {workers} processes alone         {single * workers / 1e6:6.0f} MB")
    print(f"  template and {workers} workers    {together / 1e6:6.0f} MB   {together / single / workers:.2f} of it")
    print(f"  of its own, a worker      {own / 1e6:6.1f} MB")


def on_cpu_ns(pid: int) -> int:
    """Nanoseconds that a process has run on a processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


MEASURES = {"fork": fork, "jobs": jobs, "memory": memory, "immortal": immortal}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="scripts/bench python", description=__doc__.split("\n\n")[0])
    parser.add_argument("measure", nargs="*", metavar="|".join(MEASURES), help="all four, if none is named")
    chosen = parser.parse_args().measure or list(MEASURES)
    for measure in set(chosen) - set(MEASURES):
        parser.error(f"`{measure}` is none of {', '.join(MEASURES)}")
    print(subprocess.run([PYTHON, "-VV"], stdout=subprocess.PIPE, text=True).stdout.strip())
    for measure in chosen:
        MEASURES[measure]()
