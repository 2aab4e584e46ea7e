"""Runs the same load in a real pool and in `pool simulate`, and compares the two.

    python3 examples/policy/real.py target/release/pool [--traces DIRECTORY]

The real pool has the embedded broker and jobs that sleep. Of three runs the medians count.
"""

import csv
import datetime
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

RUNS = int(os.environ.get("RUNS", "3"))
JOBS = '''
import os, time
def nap(seconds, due):
    with open(os.environ["NAPS"], "a") as naps:
        naps.write(f"{time.monotonic() - due}\\n")
    time.sleep(seconds)
'''
COMMON = ["--policy", "demand", "--scaling-period", "2s", "--utilization-window", "10s"]


def cases(traces):
    """Each case: its name, (second, seconds of sleep) of each job, how long it lasts, and settings."""
    yield "reference story", [(at / 2, 1.0) for at in range(80)], 60, ["--max-workers", "5"]
    yield "burst", [(5.0, 0.5)] * 200, 40, ["--max-workers", "24"]
    if traces:
        yield "azure slice", list(azure(os.path.join(traces, "azure_llm_code.csv"))), 60, ["--max-workers", "24"]


def azure(path):
    """The first jobs of the trace within 45 s, of 20 ms a token."""
    first = None
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            at = datetime.datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp()
            first = at if first is None else first
            if at - first > 45:
                return
            yield at - first, int(row["GeneratedTokens"]) * 0.02


def real(pool, jobs, lasts, settings):
    """Worker-seconds and p95 wait of a real pool."""
    with tempfile.TemporaryDirectory() as place:
        naps, log = os.path.join(place, "naps"), os.path.join(place, "log")
        open(naps, "w").close()
        with open(os.path.join(place, "napping.py"), "w") as module:
            module.write(JOBS)
        env = dict(os.environ, NAPS=naps, STATE_DIRECTORY=place)
        run = ["run", "--runtime", "python", "--preload", "napping", *settings, *COMMON]
        with open(log, "w") as lines:
            supervisor = subprocess.Popen([pool, *run], cwd=place, env=env, stdout=lines, stderr=lines)
        try:
            wait_for(lambda: status(pool, place, env) >= 2)
            start = time.monotonic() + 1
            began = time.time() + 1
            for second in sorted({at for at, _ in jobs}):
                time.sleep(max(0.0, start + second - time.monotonic()))
                lines = [json.dumps([seconds, start + second]) for at, seconds in jobs if at == second]
                subprocess.run([pool, "enqueue", "napping.nap", "--jsonl", "-"], input="\n".join(lines), text=True,
                               cwd=place, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(max(0.0, start + lasts - time.monotonic()))
            wait_for(lambda: sum(1 for _ in open(naps)) >= len(jobs))
        finally:
            supervisor.send_signal(signal.SIGTERM)
            supervisor.wait(30)
        waits = [max(0.0, float(line)) for line in open(naps)]
        return area(log, began, lasts), p95(waits)


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


def area(log, began, lasts):
    """Worker-seconds from the lines of the log about changes of the size."""
    size, since, sum_ = 2, 0.0, 0.0
    for line in open(log):
        change = re.search(r"^(\S+)\s.*scaled (?:up|down).*workers=\d+→(\d+)", line)
        if change:
            at = datetime.datetime.fromisoformat(change[1].replace("Z", "+00:00")).timestamp() - began
            at = min(max(at, 0.0), lasts)
            sum_, since, size = sum_ + size * (at - since), at, int(change[2])
    return sum_ + size * (lasts - since)


def p95(waits):
    return sorted(waits)[max(0, -(-len(waits) * 95 // 100) - 1)]


def simulated(pool, jobs, lasts, settings):
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "jobs.csv")
        with open(path, "w") as file:
            file.write("arrival,service\n")
            # The simulation begins with the first job, the real pool with second 0.
            file.writelines(f"{at},{seconds}\n" for at, seconds in [(0, 0), *sorted(jobs), (lasts, 0)])
        said = subprocess.run([pool, "simulate", "--arrivals", path, "--json", *settings, *COMMON], cwd=place,
                              env=dict(os.environ, STATE_DIRECTORY=place), check=True, capture_output=True, text=True)
    trial = json.loads(said.stdout)["trials"][0]
    return trial["worker_seconds"], trial["wait_p95"]


def main():
    pool = os.path.abspath(sys.argv[1])
    traces = sys.argv[3] if sys.argv[2:3] == ["--traces"] else None
    print("| Load | worker-seconds, real | simulated | | p95 wait, real | simulated | |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, jobs, lasts, settings in cases(traces):
        runs = [real(pool, jobs, lasts, settings) for _ in range(RUNS)]
        workers, wait = (statistics.median(run[at] for run in runs) for at in (0, 1))
        workers_sim, wait_sim = simulated(pool, jobs, lasts, settings)
        print(f"| {name} | {workers:.0f} | {workers_sim:.0f} | {workers_sim / workers - 1:+.0%} "
              f"| {wait:.3f} s | {wait_sim:.3f} s | {wait_sim / max(wait, 1e-6) - 1:+.0%} |", flush=True)


if __name__ == "__main__":
    main()
