"""Measures the Python runtime: what a fork costs, what a job costs beside its own work, what workers cost in memory.

    scripts/bench python                 all three
    scripts/bench python fork|jobs|memory
    POOL_TEST_PYTHON=/usr/bin/python3.9 scripts/bench python jobs

It plays the supervisor (tests/python/supervisor.py), so that only the runtime is measured.
"""

from __future__ import annotations

import argparse
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "python"))

import test_memory  # noqa: E402
from supervisor import CARRIED, PYTHON, Template  # noqa: E402

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
APP = "def noop(): pass\ndef add(a, b): return a + b\n"


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
            taken_ms = []
            for _ in range(FORKS):
                begun = time.perf_counter()
                worker = template.fork().wait_ready()
                taken_ms.append(1000 * (time.perf_counter() - begun))
                worker.hang_up()
                template.status_of(worker)
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
            names = (b"0197f000-0000-7000-8000-000000000000", b"default", task)
            fixed = struct.pack("<QQIHHHxxB3x", 1, timeout_ms, 1, *map(len, names), 0)
            packet = b"\x02\x01\x00\x00" + fixed + b"".join(names) + payload
            exchange, sock = [None] * JOBS, worker.socket
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
            print(f"  {name:26} {used / JOBS / 1000:5.2f} us   ({JOBS / wall:,.0f} jobs a second through one worker)")


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


MEASURES = {"fork": fork, "jobs": jobs, "memory": memory}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="scripts/bench python", description=__doc__.split("\n\n")[0])
    parser.add_argument("measure", nargs="*", metavar="|".join(MEASURES), help="all three, if none is named")
    chosen = parser.parse_args().measure or list(MEASURES)
    for measure in set(chosen) - set(MEASURES):
        parser.error(f"`{measure}` is none of {', '.join(MEASURES)}")
    print(subprocess.run([PYTHON, "-VV"], stdout=subprocess.PIPE, text=True).stdout.strip())
    for measure in chosen:
        MEASURES[measure]()
