"""Runs the same load in a real pool and in `pool simulate`, and compares the two.

    python3 examples/policy/real.py target/release/pool [--traces DIRECTORY]

The real pool has the embedded broker and jobs that sleep. Of three runs the medians count (RUNS=1 for one). It needs a quiet
machine: one that is busy makes jobs wait. Each run is simulated with the load as long after the pool's start as it was: what a
few jobs wait depends on when in a scaling period they come. Exits with 1 if the two are further apart than the limits below.
"""

import csv
import datetime
import itertools
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "python"))

import poolhouse  # noqa: E402  the client of this tree

RUNS = int(os.environ.get("RUNS", "3"))
JOBS = '''
import os, time
def nap(seconds, due):
    with open(os.environ["NAPS"], "a") as naps:
        naps.write(f"{time.monotonic() - due}\\n")
    time.sleep(seconds)
'''
#: Relative limits of worker-seconds and of the p95 wait.
AREA_LIMIT, WAIT_LIMIT = 0.10, 0.15
#: Waits below this count as equal, in seconds: nobody notices them, and they are the time of a message.
WAIT_MIN = 0.010
#: What a pool has before the load begins.
WORKERS_MIN = 2
COMMON = ["--policy", "demand", "--scaling-period", "2s", "--utilization-window", "10s"]


def cases(traces):
    """Each case: its name, (second, seconds of sleep) of each job, how long it lasts, and settings."""
    yield "2 jobs a second of 1 s", [(at / 2, 1.0) for at in range(80)], 60, ["--max-workers", "5"]
    yield "200 jobs of 0.5 s at once", [(5.0, 0.5)] * 200, 40, ["--max-workers", "24"]
    yield "45 s of azure_llm_code", list(azure(os.path.join(traces, "azure_llm_code.csv"))), 60, ["--max-workers", "24"]


def azure(path):
    """The first jobs of the trace within 45 s, of 20 ms a token: of our slice, or of the file as it was published."""
    first = None
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            if "arrival" in row:
                at, tokens = float(row["arrival"]), int(row["tokens"])
            else:
                at = datetime.datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp()
                tokens = int(row["GeneratedTokens"])
            first = at if first is None else first
            if at - first > 45:
                return
            yield at - first, tokens * 0.02


def real(pool, jobs, lasts, settings):
    """Worker-seconds and p95 wait of a real pool, and how long it had run when the load began."""
    with tempfile.TemporaryDirectory() as place:
        naps, log = os.path.join(place, "naps"), os.path.join(place, "log")
        open(naps, "w").close()
        with open(os.path.join(place, "napping.py"), "w") as module:
            module.write(JOBS)
        env = dict(os.environ, NAPS=naps, STATE_DIRECTORY=place, POOL_BROKER=f"sqlite:{place}/jobs.db")
        run = ["run", "--runtime", "python", "--preload", "napping", *settings, *COMMON]
        with open(log, "w") as lines:
            supervisor = subprocess.Popen([pool, *run], cwd=place, env=env, stdout=lines, stderr=lines)
        try:
            wait_for(lambda: status(pool, place, env) >= WORKERS_MIN)
            start = time.monotonic() + 1
            began = time.time() + 1
            producer = poolhouse.Pool(f"sqlite:{place}/jobs.db")
            for at, together in itertools.groupby(sorted(jobs), key=lambda job: job[0]):
                naps_then = [producer.signature("napping.nap", [seconds, start + at]) for _, seconds in together]
                time.sleep(max(0.0, start + at - time.monotonic()))
                producer.enqueue_many(naps_then)
            time.sleep(max(0.0, start + lasts - time.monotonic()))
            wait_for(lambda: sum(1 for _ in open(naps)) >= len(jobs))
        finally:
            supervisor.send_signal(signal.SIGTERM)
            supervisor.wait(30)
        waits = [max(0.0, float(line)) for line in open(naps)]
        return area(log, began, lasts), p95(waits), began - started(log)


def status(pool, place, env):
    said = subprocess.run([pool, "status", "--json"], cwd=place, env=env, capture_output=True, text=True)
    if said.returncode:
        return 0
    pool = json.loads(said.stdout)["pools"]["default"]
    return sum(process["state"] == "idle" for process in pool["processes"])


def wait_for(condition, limit=60):
    until = time.monotonic() + limit
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError("the pool does not get there")
        time.sleep(0.1)


def started(log):
    """When the pool's first scaling period began."""
    return instant(next(line for line in open(log) if " starting " in line).split()[0])


def instant(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def area(log, began, lasts):
    """Worker-seconds from the lines of the log about changes of the size."""
    size, since, sum_ = WORKERS_MIN, 0.0, 0.0
    for line in open(log):
        change = re.search(r"^(\S+)\s.*scaled (?:up|down).*workers=\d+→(\d+)", line)
        if change:
            at = min(max(instant(change[1]) - began, 0.0), lasts)
            sum_, since, size = sum_ + size * (at - since), at, int(change[2])
    return sum_ + size * (lasts - since)


def p95(waits):
    return sorted(waits)[max(0, -(-len(waits) * 95 // 100) - 1)]


def simulated(pool, jobs, lasts, settings, lead):
    """Worker-seconds and p95 wait in the simulation, of a load that begins so long after the pool."""
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "jobs.csv")
        with open(path, "w") as file:
            file.write("arrival,service\n")
            # The simulation begins with the first job and ends with the last one.
            then = [(lead + at, seconds) for at, seconds in sorted(jobs)]
            file.writelines(f"{at},{seconds}\n" for at, seconds in [(0, 0), *then, (lead + lasts, 0)])
        said = subprocess.run([pool, "simulate", "--arrivals", path, "--json", *settings, *COMMON], cwd=place,
                              env=dict(os.environ, STATE_DIRECTORY=place), check=True, capture_output=True, text=True)
    trial = json.loads(said.stdout)["trials"][0]
    return trial["worker_seconds"] - WORKERS_MIN * lead, trial["wait_p95"]


def apart(real, simulated, least=0.0):
    """By how much the simulated value differs; values below `least` count as `least`."""
    return max(simulated, least) / max(real, least, 1e-9) - 1


def main():
    pool = os.path.abspath(sys.argv[1])
    traces = sys.argv[3] if sys.argv[2:3] == ["--traces"] else os.path.join(ROOT, "examples", "policy", "traces")
    print("| Load | worker-seconds, real | simulated | | p95 wait, real | simulated | |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    is_near = True
    for name, jobs, lasts, settings in cases(traces):
        runs = [real(pool, jobs, lasts, settings) for _ in range(RUNS)]
        simulations = [simulated(pool, jobs, lasts, settings, lead) for _, _, lead in runs]
        workers, wait = (statistics.median(run[at] for run in runs) for at in (0, 1))
        workers_sim, wait_sim = (statistics.median(run[at] for run in simulations) for at in (0, 1))
        by_area, by_wait = apart(workers, workers_sim), apart(wait, wait_sim, WAIT_MIN)
        is_near &= abs(by_area) <= AREA_LIMIT and abs(by_wait) <= WAIT_LIMIT
        print(f"| {name} | {workers:.0f} | {workers_sim:.0f} | {by_area:+.0%} "
              f"| {wait:.3f} s | {wait_sim:.3f} s | {by_wait:+.0%} |", flush=True)
    print(f"\n{'within' if is_near else 'NOT within'} {AREA_LIMIT:.0%} of worker-seconds and {WAIT_LIMIT:.0%} of the p95 wait; "
          f"waits below {WAIT_MIN * 1000:.0f} ms count as equal. {RUNS} runs each, load average {os.getloadavg()[1]:.1f}.")
    sys.exit(0 if is_near else 1)


if __name__ == "__main__":
    main()
