"""What workers cost that share what the template loaded, beside processes that each load it."""

from __future__ import annotations

import subprocess
import unittest
from pathlib import Path

from supervisor import PYTHON, Template

WORKERS = 8
JOBS_EACH = 100
#: About 100 MB of small objects. A job reads a tenth of a tenth of them; all jobs together, one tenth.
APP = """
records = [{'id': i, 'name': f'name {i}', 'tags': [f'tag {i}', i * 0.5]} for i in range(205_000)]
def read(job):
    part = len(records) // 100
    begin = job % 10 * part
    return sum(len(record['name']) + len(record['tags']) for record in records[begin:begin + part])
"""
ALONE = """
import app, sys
print(sum(app.read(job) for job in range(100)), flush=True)
sys.stdin.read()
"""


def rollup(pid: int, key: str = "Pss:") -> int:
    """A figure of /proc/PID/smaps_rollup in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no {key} in the memory map of {pid}")
#: 15 MB that the C library keeps: after the first line it gives nothing back below 40 MB.
FREED = """
bytes(20 << 20)
blocks = [b'x' * 100_000 for _ in range(150)]
del blocks
"""


def measure() -> tuple[int, int, int]:
    """PSS after 800 jobs, in bytes: template and workers; one process alone; what a worker has for itself."""
    with Template({"app.py": APP}) as template:
        template.ready("app", huge_pages=True)
        workers = [template.worker() for _ in range(WORKERS)]
        for worker in workers:
            for job in range(JOBS_EACH):
                worker.call("app.read", job)
        together = sum(rollup(pid) for pid in [template.pid, *(worker.pid for worker in workers)])
        own = sum(rollup(worker.pid, "Private_Dirty:") for worker in workers) // WORKERS
        command = [PYTHON, "-c", ALONE]
        with subprocess.Popen(
            command, cwd=template.directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as alone:
            assert alone.stdout is not None and alone.stdin is not None
            assert alone.stdout.readline()
            # Its libraries are shared with the others here; eight like it would share them, too.
            single = rollup(alone.pid)
            alone.stdin.close()
    return together, single, own


class Memory(unittest.TestCase):
    def test_eight_workers_cost_at_most_a_quarter_of_eight_processes(self) -> None:
        together, single, own = measure()
        self.assertGreater(single, 95 << 20, "the app no longer holds 100 MB")
        self.assertLessEqual(together * 4, single * WORKERS, f"{own >> 10} KiB of its own a worker")

    def test_what_the_preload_freed_is_given_back(self) -> None:
        found = []
        for app in ("", FREED):
            with Template({"app.py": app}) as template:
                found.append(rollup(template.ready("app").pid))
        self.assertLess(found[1] - found[0], 5 << 20)


if __name__ == "__main__":
    unittest.main()
