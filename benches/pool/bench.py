#!/usr/bin/env python3
"""What the pool itself costs on the embedded broker: `scripts/bench pool [throughput] [idle] [recovery] [fairness] [health] [burst] [hold]`.

throughput  100,000 `noop` jobs: enqueued in bulk, then run by two native workers; the processor time of each part.
idle        how often the supervisor wakes in 30 s with nothing to do (voluntary context switches).
recovery    from `kill -9` of a worker to the next start of its job.
fairness    a job of 10 s with 1,000 of 1 ms behind it, of the same task, on two workers: how long the short ones took, from
            the moment that they could run until `pool wait` told their end; with prefetch = "auto" and 64, native and python.
health      `pool health`, as a probe starts it: from its start to its end, beside `true`, one after the other in turn.
burst       200 jobs of 0.5 s at once on 2 to 24 Python workers, with the policy `demand` and the default periods: when there
            were 24, when all jobs had ended, when there were 2 again. In the second run the template is killed amid it.
hold        jobs that compute, on 2 to 8 workers with `throughput_hold`, by each policy: when growth was taken back, to how many
            workers, the most that there were in the 30 s after, and what they did.

Uses target/release/pool (POOL_BIN names another). Figures go to standard output as a Markdown table.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from support import child

POOL = os.environ.get("POOL_BIN", "target/release/pool")
JOBS = 100_000
TICK = os.sysconf("SC_CLK_TCK")


class Place:
    """A directory with a broker file of its own, and the supervisor on it."""

    def __init__(self, directory, *flags):
        self.env = dict(os.environ, POOL_BROKER=f"sqlite:{directory}/jobs.db")
        self.flags = flags
        self.process = None

    def call(self, *args):
        return subprocess.run([POOL, *args], env=self.env, check=True, capture_output=True, text=True).stdout

    def status(self):
        try:
            return json.loads(self.call("status", "--json"))["pools"]["default"]
        except subprocess.CalledProcessError:
            return None

    def start(self):
        self.process = child.start([POOL, "run", *self.flags], env=self.env, stderr=subprocess.DEVNULL)
        self.until(lambda: (self.status() or {}).get("workers") == 2)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)

    @staticmethod
    def until(check, seconds=120):
        end = time.monotonic() + seconds
        while not check():
            if time.monotonic() > end:
                sys.exit("waited in vain")
            time.sleep(0.01)


def cpu(stat):
    """Processor seconds of one /proc/…/stat."""
    fields = pathlib.Path(stat).read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def parts(place):
    """Processor seconds by part: the supervisor's threads, and the workers."""
    pid = place.process.pid
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        part = "supervisor: loop" if task.name == str(pid) else "supervisor: broker and other threads"
        found[part] = found.get(part, 0.0) + cpu(task / "stat")
    found["workers"] = sum(cpu(f"/proc/{worker['pid']}/stat") for worker in place.status()["processes"])
    return found


def throughput(directory):
    place = Place(directory, "--min-workers", "2", "--max-workers", "2")
    begun = time.monotonic()
    place.call("enqueue", "noop", "--count", str(JOBS))
    enqueued = time.monotonic() - begun
    row("enqueue in bulk", f"{JOBS / enqueued:,.0f} jobs/s")
    place.start()
    # The first load warms up; the second one is measured, from a paused pool.
    Place.until(lambda: place.status()["done"] >= JOBS)
    place.call("pause")
    place.call("enqueue", "noop", "--count", str(JOBS))
    before = parts(place)
    begun = time.monotonic()
    place.call("resume")
    Place.until(lambda: place.status()["done"] >= 2 * JOBS)
    took = time.monotonic() - begun
    row("run by 2 native workers", f"{JOBS / took:,.0f} jobs/s")
    for part, seconds in parts(place).items():
        row(f"processor time, {part}", f"{(seconds - before.get(part, 0)) / JOBS * 1e6:.1f} µs a job")
    place.stop()


def idle(directory):
    place = Place(directory, "--min-workers", "2", "--max-workers", "2")
    place.start()
    time.sleep(6)  # past the first scaling period

    def switches():
        tasks = pathlib.Path(f"/proc/{place.process.pid}/task").iterdir()
        text = "".join((task / "status").read_text() for task in tasks)
        return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("voluntary_ctxt"))

    before, spent = switches(), cpu(f"/proc/{place.process.pid}/stat")
    time.sleep(30)
    row("idle for 30 s: voluntary context switches of the supervisor", str(switches() - before))
    row("idle for 30 s: its processor time", f"{(cpu(f'/proc/{place.process.pid}/stat') - spent) * 1e3:.0f} ms")
    place.stop()


def recovery(directory):
    place = Place(directory, "--min-workers", "2", "--max-workers", "2")
    place.start()
    times = []
    for _ in range(5):
        job = place.call("enqueue", "sleep", "60").strip()

        def runner():
            return next((w for w in place.status()["processes"] if w["job"] == job and w["state"] == "busy"), None)

        Place.until(lambda: runner() is not None)
        killed = runner()["pid"]
        begun = time.monotonic()
        os.kill(killed, signal.SIGKILL)
        Place.until(lambda: (runner() or {"pid": killed})["pid"] != killed)
        times.append(time.monotonic() - begun)
        place.call("stop", "--now")
        place.process.wait(timeout=60)
        os.remove(f"{directory}/jobs.db")
        place.start()
    row("from kill -9 of a worker to its job's next run", f"{sorted(times)[2] * 1e3:.0f} ms (median of 5)")
    place.stop()


NAP = """
import time

def nap(seconds):
    time.sleep(seconds)
"""


def fairness(directory):
    pathlib.Path(directory, "naps.py").write_text(NAP)
    python = ["--runtime", "python", "--preload", "naps", "--directory", directory]
    for runtime, task, flags in [("native", "sleep", []), ("python", "naps.nap", python)]:
        for prefetch in ["auto", "64"]:
            place = Place(directory, "--min-workers", "2", "--max-workers", "2", "--prefetch", prefetch, *flags)
            place.start()
            seconds = sorted(short_among_long(place, task))
            place.stop()
            at = {share: seconds[int(len(seconds) * share)] for share in (0.5, 0.9, 0.99)}
            figures = ", ".join(f"p{share * 100:.0f} {value:.2f} s" for share, value in at.items())
            held = sum(value > LONG_S for value in seconds)
            row(f"{runtime}, prefetch = {prefetch}: 1,000 short jobs beside a long one", f"{figures}; {held} waited for it")


LONG_S = 10


def short_among_long(place, task):
    """Seconds until each short job had ended, as a waiting client sees it."""
    before = place.call("enqueue", task, "0.001", "--count", "100")
    subprocess.run([POOL, "wait", "-"], env=place.env, input=before, check=True, capture_output=True, text=True)
    place.call("pause")
    place.call("enqueue", task, str(LONG_S))
    short = place.call("enqueue", task, "0.001", "--count", "1000")
    command = [POOL, "wait", "-"]
    with subprocess.Popen(command, env=place.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as waiting:
        waiting.stdin.write(short)
        waiting.stdin.close()
        begun = time.monotonic()
        place.call("resume")
        ended = [time.monotonic() - begun for _ in waiting.stdout]
    if len(ended) != 1000:
        sys.exit(f"{len(ended)} of 1000 jobs ended")
    return ended


PROBES = 200


def health(directory):
    place = Place(directory, "--min-workers", "2", "--max-workers", "2")
    place.start()
    commands = {"true": ["/bin/true"], "pool health": [POOL, "health"], "pool health --live": [POOL, "health", "--live"]}
    took = {name: [] for name in commands}
    for _ in range(PROBES):
        for name, command in commands.items():
            begun = time.perf_counter()
            subprocess.run(command, env=place.env, check=True, stdout=subprocess.DEVNULL)
            took[name].append((time.perf_counter() - begun) * 1000)
    place.stop()
    base = sorted(took["true"])[PROBES // 2]
    for name, times in took.items():
        median, p95 = (sorted(times)[int(PROBES * share)] for share in (0.5, 0.95))
        row(
            f"{name}, from start to end",
            f"quickest {min(times):.2f} ms, median {median:.2f} ms, p95 {p95:.2f} ms; {median / base:.1f} times true",
        )


def burst(directory):
    for killed in False, True:
        place = pathlib.Path(directory, "killed" if killed else "left")
        place.mkdir()
        (place / "napping.py").write_text(NAP)
        flags = ["--runtime", "python", "--preload", "napping", "--directory", str(place), "--policy", "demand"]
        pool = Place(place, *flags, "--min-workers", "2", "--max-workers", "24")

        def taking():
            return sum(worker["state"] in ("idle", "busy") for worker in pool.status()["processes"])

        pool.start()
        Place.until(lambda: taking() == 2)
        begun = time.monotonic()
        ids = pool.call("enqueue", "napping.nap", "0.5", "--count", "200").split()
        Place.until(lambda: taking() == 24)
        grown = time.monotonic() - begun
        if killed:
            os.kill(json.loads(pool.call("status", "--json"))["template_pid"], signal.SIGKILL)
        pool.call("wait", *ids)
        done = time.monotonic() - begun
        Place.until(lambda: pool.status()["workers"] == 2)
        shrunk = time.monotonic() - begun - done
        pool.stop()
        what = "the same, the template killed amid it" if killed else "200 jobs of 0.5 s at once, 2 to 24 workers"
        row(what, f"24 workers within {grown:.2f} s, done in {done:.2f} s, 2 workers {shrunk:.0f} s later")


def hold(directory):
    for policy in "utilization", "demand":
        place = pathlib.Path(directory, policy)
        place.mkdir()
        limits = ["--min-workers", "2", "--max-workers", "8"]
        pool = Place(place, *limits, "--policy", policy, "--throughput-hold", "10m")
        pool.start()
        for _ in range(10):
            pool.call("enqueue", "fib", FIB, "--wait")
        begun = time.monotonic()
        pool.call("enqueue", "fib", FIB, "--count", "20000")

        def last():
            return pool.status()["last_decision"] or {}  # none in its first period

        Place.until(lambda: last().get("reason") == "no throughput")
        taken_back, size = time.monotonic() - begun, last()["to"]
        time.sleep(5)  # those that leave finish their jobs
        begun, before, most = time.monotonic(), pool.status()["done"], 0
        while time.monotonic() < begun + 30:
            most = max(most, pool.status()["workers"])
            time.sleep(0.2)
        rate = (pool.status()["done"] - before) / (time.monotonic() - begun)
        pool.stop()
        row(
            f"jobs that compute, 2 to 8 workers, {policy}",
            f"taken back to {size} after {taken_back:.1f} s, at most {most} in the 30 s after, {rate:.0f} jobs/s",
        )


#: Takes some tens of milliseconds.
FIB = "34"


def row(what, value):
    print(f"| {what} | {value} |", flush=True)


def main():
    measures = {measure.__name__: measure for measure in (throughput, idle, recovery, fairness, health, burst, hold)}
    wanted = sys.argv[1:] or list(measures)
    if unknown := [name for name in wanted if name not in measures]:
        sys.exit(f"unknown measure {unknown[0]}; there are {', '.join(measures)}")
    print("| Measure | Value |\n|---|---|")
    for name in wanted:
        with tempfile.TemporaryDirectory() as directory:
            measures[name](directory)


if __name__ == "__main__":
    main()
