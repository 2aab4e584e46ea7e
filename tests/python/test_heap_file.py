"""The heap in a file: for jobs that each have a process of their own."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any

from supervisor import CARRIED, PYTHON, Template
from test_memory import rollup

#: A heap of some 30 MiB, in arenas, in the C library's heap and in single requests to the kernel.
APP = """
records = [{'id': i, 'name': f'name {i}', 'tags': [f'tag {i}', i * 0.5]} for i in range(40_000)]
texts = [bytes([i % 256]) * 5000 for i in range(1000)]
block = bytes(range(256)) * 20_000

def check():
    assert [record['id'] for record in records] == list(range(40_000))
    assert [record['name'] for record in records] == [f'name {i}' for i in range(40_000)]
    assert all(text == bytes([i % 256]) * 5000 for i, text in enumerate(texts))
    return len(block) if block == bytes(range(256)) * 20_000 else 0

def change():
    before = check()
    records.sort(key=lambda record: -record['id'])
    records.reverse()
    texts.extend([b'more' * 1000] * 500)
    del texts[1000:]
    return before if check() == before else 0

def own():
    return sum(int(line.split()[1]) for line in open('/proc/self/smaps_rollup') if line.startswith('Anonymous:')) * 1024
"""
SCRIPT = """
import ctypes, mmap, sys
sys.path.insert(0, sys.argv[1])
from pool_template import areas, arenas, heap_file, huge_pages
arenas.reserve()
{before}
arenas.release()
arenas.look()
print(*heap_file.move(), sep='|')
{after}
"""
EXPECTED = 256 * 20_000


def can_move() -> bool:
    """There are an x86-64 and the GNU C library."""
    return platform.machine() == "x86_64" and not moved("", "")[0].startswith("0|")


def moved(before: str, after: str, **environment: str) -> list[str]:
    """The lines of a process that moves its heap and prints first what `move` says."""
    script = SCRIPT.format(before=before, after=after)
    environment = {**os.environ, **environment}
    command = [PYTHON, "-c", script, str(CARRIED)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    if done.returncode:
        raise AssertionError(done.stderr)
    return done.stdout.splitlines()


def may_watch() -> bool:
    """The kernel lets a process watch such memory (5.19 is the first), and no sandbox forbids it."""
    script = "import ctypes, os; os._exit(ctypes.CDLL(None).syscall(323, os.O_CLOEXEC | 1) < 0)"
    version = tuple(int(number) for number in platform.release().split(".")[:2])
    return version >= (5, 19) and subprocess.run([PYTHON, "-c", script], timeout=60).returncode == 0


def is_page_by_page(pid: int) -> list[bool]:
    """Of each area of a process that is the file's: whether it is watched (`uw`, proc_pid_smaps(5))."""
    found, is_heap = [], False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        key, *values = line.split()
        if not key.endswith(":"):
            is_heap = "/memfd:pool-heap" in line and values[0].endswith("p")
        elif key == "VmFlags:" and is_heap:
            found.append("uw" in values)
    return found


def heap_of(pid: int) -> list[str]:
    """The areas of a process that are the file's."""
    return [line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "/memfd:pool-heap" in line]


@unittest.skipUnless(can_move(), "no heap is moved on this machine")
class Moved(unittest.TestCase):
    def load(self, app: str = APP, **values: Any) -> tuple[Template, dict[str, Any]]:
        template = Template({"app.py": app})
        self.addCleanup(template.__exit__)
        answer = template.load("app", fresh=True, huge_pages=True, **values)
        self.assertEqual(answer["type"], "ready")
        return template, answer

    def test_jobs_find_everything_as_it_was_and_may_change_it(self) -> None:
        template, answer = self.load()
        self.assertGreater(answer["moved_bytes"], 20 << 20)
        self.assertIsNone(answer["move_skipped"])
        worker = template.worker()
        self.assertTrue(heap_of(worker.pid))
        for job in ("app.check", "app.change", "app.check"):
            self.assertEqual(worker.call(job).value, EXPECTED)

    def test_a_job_has_little_for_itself(self) -> None:
        template, answer = self.load()
        self.assertLess(template.worker().call("app.own").value, answer["moved_bytes"] // 4)

    def test_its_pages_are_mapped_one_by_one(self) -> None:
        if not may_watch():
            self.skipTest("this kernel, or a sandbox, does not let a process watch its memory")
        template, _ = self.load()
        worker = template.worker()
        self.assertEqual(worker.call("app.check").value, EXPECTED)
        for pid in (template.pid, worker.pid):
            self.assertEqual(set(is_page_by_page(pid)), {True})

    def test_where_memory_can_not_be_watched_it_is_moved_all_the_same(self) -> None:
        sandbox = "fault_around._is_filtered = lambda: True; fault_around._try_it = lambda: os.kill(os.getpid(), 9)"
        for refuses in ("fault_around._SYS_USERFAULTFD = 100_000", sandbox):
            before = f"import os; from pool_template import fault_around; {refuses}; held = b'x' * (20 << 20)"
            first, second = moved(before, "print(heap_file._pages)")
            self.assertGreater(int(first.partition("|")[0]), 15 << 20)
            self.assertEqual(second, "None")

    def test_the_template_is_said_to_have_what_the_file_takes(self) -> None:
        template, answer = self.load()
        self.assertGreater(rollup(template.pid), answer["moved_bytes"] * 9 // 10)
        self.assertLess(rollup(template.pid), answer["moved_bytes"] + (32 << 20))

    def test_warm_workers_share_the_heap_as_ever(self) -> None:
        with Template({"app.py": APP}) as template:
            answer = template.load("app", huge_pages=True)
            self.assertEqual(answer["moved_bytes"], 0)
            self.assertIsNone(answer["move_skipped"])
            self.assertEqual(heap_of(template.pid), [])

    def test_without_huge_pages_it_stays_where_it_is(self) -> None:
        with Template({"app.py": APP}) as template:
            self.assertEqual(template.load("app", fresh=True, huge_pages=False)["moved_bytes"], 0)

    def test_beside_a_thread_that_may_write_it_stays_where_it_is(self) -> None:
        app = APP + "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        template, answer = self.load(app)
        self.assertEqual(answer["moved_bytes"], 0)
        self.assertEqual(answer["move_skipped"], "other threads are running")
        self.assertEqual(template.worker().call("app.check").value, EXPECTED)

    def test_threads_that_a_library_ends_at_a_fork_are_no_obstacle(self) -> None:
        app = APP + (
            "import os, threading\n"
            "leave = threading.Event()\n"
            "thread = threading.Thread(target=leave.wait, daemon=True); thread.start()\n"
            "os.register_at_fork(before=lambda: (leave.set(), thread.join()))\n"
        )
        self.assertGreater(self.load(app)[1]["moved_bytes"], 20 << 20)

    def test_what_another_allocator_may_use_stays(self) -> None:
        before = (
            "room = mmap.mmap(-1, 8 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
            "room[:] = bytes(range(256)) * (len(room) // 256)\n"
            "at = ctypes.addressof(ctypes.c_char.from_buffer(room))\n"
        )
        after = "print(*{each.is_heap_file for each in areas.of_this_process() if each.start <= at < each.end})"
        self.assertEqual(moved(before, after)[1], "False")

    def test_memory_that_was_never_touched_takes_none_in_the_file(self) -> None:
        before = (
            "libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p; libc.malloc.argtypes = [ctypes.c_size_t]\n"
            "at = libc.malloc(512 << 20)\n"
        )
        self.assertLess(int(moved(before, "")[0].partition("|")[0]), 300 << 20)

    def test_a_single_large_request_is_known_and_may_grow(self) -> None:
        before = (
            "libc = ctypes.CDLL(None); libc.malloc.restype = libc.realloc.restype = ctypes.c_void_p\n"
            "libc.malloc.argtypes, libc.realloc.argtypes = [ctypes.c_size_t], [ctypes.c_void_p, ctypes.c_size_t]\n"
            "at = libc.malloc(48 << 20)\n"
            "ctypes.memset(at, 7, 48 << 20)\n"
        )
        after = (
            "print(*{each.is_heap_file for each in areas.of_this_process() if each.start < at + (9 << 20) < each.end})\n"
            "at = libc.realloc(at, 96 << 20)\n"
            "ctypes.memset(at + (48 << 20), 8, 48 << 20)\n"
            "print({7: 48 << 20, 8: 48 << 20} == {i: ctypes.string_at(at, 96 << 20).count(i) for i in (7, 8)})\n"
        )
        self.assertEqual(moved(before, after)[1:], ["True", "True"])

    def test_without_arenas_the_c_librarys_heap_is_moved(self) -> None:
        before = "held = [bytes([i % 256]) * 400 for i in range(50_000)]"
        after = "print(all(each == bytes([i % 256]) * 400 for i, each in enumerate(held)))"
        first, second = moved(before, after, PYTHONMALLOC="malloc")
        self.assertGreater(int(first.partition("|")[0]), 15 << 20)
        self.assertEqual(second, "True")

    @unittest.skipUnless(shutil.which("cc"), "no compiler")
    def test_the_heap_of_another_allocator_stays(self) -> None:
        source = "".join(
            f"void *__libc_{name}({kinds}); void *{name}({kinds}) {{ return __libc_{name}({values}); }}\n"
            for name, kinds, values in (
                ("malloc", "unsigned long a", "a"),
                ("calloc", "unsigned long a, unsigned long b", "a, b"),
                ("realloc", "void *a, unsigned long b", "a, b"),
                ("free", "void *a", "a"),
            )
        )
        held = "held = [bytes([i % 256]) * 4000 for i in range(5_000)]"
        with tempfile.TemporaryDirectory() as directory:
            library = f"{directory}/allocator.so"
            command = ["cc", "-w", "-fno-builtin", "-shared", "-fPIC", "-x", "c", "-", "-o", library]
            subprocess.run(command, input=source, text=True, check=True, timeout=60)
            with_it = moved(held, "", LD_PRELOAD=library)[0]
        self.assertLess(int(with_it.partition("|")[0]), 15 << 20)
        self.assertGreater(int(moved(held, "")[0].partition("|")[0]), 15 << 20)

    def test_what_goes_wrong_keeps_no_application_from_loading(self) -> None:
        before = "import os; os.posix_fallocate = None"
        self.assertTrue(moved(before, "")[0].startswith("0|no copy could be made: "))


class NotMoved(unittest.TestCase):
    def test_a_python_without_files_in_memory_says_so(self) -> None:
        before = "import os, platform; platform.machine = lambda: 'x86_64'; del os.memfd_create"
        self.assertEqual(moved(before, ""), ["0|this Python has no os.memfd_create"])

    def test_where_there_are_no_chains_of_calls_the_reason_is_told_and_nothing_else_is_tried(self) -> None:
        before = (
            "import platform; platform.machine = lambda: 'riscv64'\n"
            "from pool_template import fault_around; fault_around.open_if_allowed = lambda: print('tried')\n"
        )
        self.assertEqual(moved(before, ""), ["0|not known for this kind of processor (riscv64)"])

    def test_a_python_without_ctypes_says_so(self) -> None:
        before = "from pool_template import c_chain, fault_around; c_chain.ctypes = fault_around.ctypes = None"
        self.assertEqual(moved(before, ""), ["0|this Python has no ctypes module"])

    def test_what_was_not_moved_is_not_watched(self) -> None:
        before = "import os, platform; platform.machine = lambda: 'x86_64'; del os.memfd_create"
        self.assertEqual(moved(before, "print(heap_file._pages)")[1], "None")


if __name__ == "__main__":
    unittest.main()
