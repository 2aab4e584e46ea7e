"""Functions as jobs: arguments, results, failures, names; what a job may do without harm to the next one."""

from __future__ import annotations

import os
import select
import signal
import socket
import unittest

from supervisor import AFTER_BY_POLICY, FAILURE, REJECTED, RETRY, SUCCESS, Template, Worker

APP = r"""
import asyncio, dataclasses, multiprocessing, os, signal, subprocess, sys, time
from subprocess import run as borrowed
import pool_job

def given(*args, **kwargs): return [list(args), kwargs]
def needs(a): return a
def give_back(value): return value
def make(kind):
    loop = []; loop.append(loop)
    return {'object': object(), 'set': {1}, 'nan': float('nan'), 'loop': loop, 'surrogate': '\ud800',
            'umlaut': '\u00fc', 'bytes': b'x', 'retry': pool_job.Retry()}[kind]
def long_text(size): return 'x' * size
def length(text): return len(text)
def current(): return pool_job.current_job()._asdict()
async def soon(value):
    await asyncio.sleep(0.001)
    return value + 1
def lazy(): return soon(41)

class Odd(Exception):
    def __str__(self): raise ValueError('I have no text')
def raise_odd(): raise Odd
def raise_value(): raise ValueError('a bad value')
def raise_chained():
    try: helper()
    except KeyError as error: raise RuntimeError('outer') from error
def helper(): {}['missing']
def inner_type_error(): return helper(1)
def exit(code): sys.exit(code)
def interrupt(): raise KeyboardInterrupt
def deep(): return deep()
def greedy(): return bytearray(1 << 60)
def again(after): raise pool_job.Retry(after=after, reason='not yet')
def again_wrongly(): raise pool_job.Retry(after=-1)

class Tasks:
    @staticmethod
    def static(): return 'static'
    @classmethod
    def of_class(cls): return cls.__name__
    def of_instance(self): pass
    class Inner:
        @staticmethod
        def static(): return 'inner'
def _private(): pass
class StandsFor:
    def __init__(self, function): self.function = function
    def __call__(self, *args): raise AssertionError('the function itself is called')
    def __pool_task__(self): return self.function
decorated = StandsFor(needs)
foreign = StandsFor(borrowed)
not_one = StandsFor(7)
VALUE = 7
wrapped = dataclasses.dataclass

def fork_and_return():
    pid = os.fork()
    if pid == 0:
        return 'from the child'
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
def fork_and_raise(code):
    pid = os.fork()
    if pid == 0:
        raise ValueError('in the child') if code is None else SystemExit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
def square(n): return n * n
def use_processes():
    found = []
    for method in ('fork', 'spawn', 'forkserver'):
        with multiprocessing.get_context(method).Pool(2) as pool:
            found += pool.map(square, range(4))
    return found
def terminate_process():
    process = multiprocessing.get_context('fork').Process(target=time.sleep, args=(1000,))
    process.start()
    process.terminate()
    process.join()
    return process.exitcode
def use_program(): return subprocess.run(['echo', 'hello'], stdout=subprocess.PIPE).stdout.decode()
def interrupt_program():
    process = subprocess.Popen(['sleep', '1000'])
    process.send_signal(signal.SIGINT)
    return process.wait()
def close_output(): sys.stdout.close()
def break_output(): sys.stdout = None
def nap(seconds): print('running'); time.sleep(seconds); return 'slept'
def stay():
    print('running')
    while signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL: time.sleep(0.01)
    print('asked to leave')
    time.sleep(1000)
"""


class Jobs(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        files = {
            "app.py": APP,
            "later.py": "import os\ndef pid(): return os.getpid()\n",
            "broken.py": "import absent\ndef f(): pass\n",
            "pack/__init__.py": "from pack.inner import f\nfrom os import getpid\n",
            "pack/inner.py": "def f(): return 'inner'\n",
            "pack/_hidden.py": "def f(): pass\n",
            "lone/__init__.py": "from lone.below import f\n",
            "lone/below.py": "def f(): return 'below'\n",
        }
        cls.template = Template(files).__enter__()
        cls.addClassCleanup(cls.template.__exit__)
        modules = ["app", "later", "broken", "gone", "pack.*", "lone"]
        cls.template.ready("app", modules=modules, max_result=300_000)
        cls.worker = cls.template.worker()

    def call(self, function: str, *args: object, **options: object):
        """Runs `app.FUNCTION` with positional arguments."""
        return self.worker.call(f"app.{function}", list(args) or None, **options)

    def rejected(self, task: str, kind: str, **options: object) -> str:
        """The message with which this job is rejected."""
        done = self.worker.call(task, **options)
        self.assertEqual(done.code, REJECTED, done)
        self.assertEqual(done.error["kind"], kind)
        return done.error["message"]

    # Arguments

    def test_an_object_is_keywords_an_array_positions_and_nothing_is_nothing(self) -> None:
        cases = {
            b'{"a": 1, "b": [2]}': [[], {"a": 1, "b": [2]}],
            b'[1, {"a": 2}]': [[1, {"a": 2}], {}],
            b"": [[], {}],
            b"null": [[], {}],
            b"{}": [[], {}],
            b"[]": [[], {}],
            b" null ": [[], {}],
            b'"text"': [["text"], {}],
            b"5": [[5], {}],
            b"false": [[False], {}],
            b' \n{"a": 1}\n ': [[], {"a": 1}],
        }
        for payload, expected in cases.items():
            self.assertEqual(self.worker.call("app.given", payload=payload).value, expected, payload)

    def test_arguments_that_are_no_json_are_rejected(self) -> None:
        for payload in (b"{", b"{} {}", b"\xff", b"nonsense", b"[" * 100_000):
            message = self.rejected("app.given", "wrong arguments", payload=payload)
            self.assertIn("the arguments are not JSON", message)

    def test_arguments_that_the_function_does_not_take_are_rejected(self) -> None:
        self.assertIn("missing 1 required positional argument: 'a'", self.rejected("app.needs", "wrong arguments"))
        self.assertIn("unexpected keyword", self.rejected("app.needs", "wrong arguments", args={"a": 1, "b": 2}))

    def test_a_type_error_inside_the_function_is_a_failure_like_any(self) -> None:
        done = self.call("inner_type_error")
        self.assertEqual((done.code, done.error["kind"]), (FAILURE, "TypeError"))

    # Results

    def test_any_json_value_comes_back(self) -> None:
        for value in (None, True, 0, 1.5, "text", "\u00fc\U0001f600", [1, [2]], {"a": {"b": None}}):
            done = self.call("give_back", value)
            self.assertEqual((done.value, done.after_ms), (value, AFTER_BY_POLICY))

    def test_text_comes_back_as_utf8(self) -> None:
        self.assertEqual(self.call("make", "umlaut").data, '"\u00fc"'.encode())

    def test_half_a_surrogate_pair_comes_back_escaped(self) -> None:
        self.assertEqual(self.call("make", "surrogate").data, b'"\\ud800"')

    def test_a_result_that_is_no_json_is_a_failure_that_names_its_type(self) -> None:
        for kind, said in {
            "object": "the result (of type object) is not JSON",
            "set": "the result (of type set) is not JSON: Object of type set",
            "bytes": "(of type bytes)",
            "nan": "Out of range float values are not JSON",
            "loop": "Circular reference",
            "retry": "(of type pool_job.Retry)",
        }.items():
            done = self.call("make", kind)
            self.assertEqual((done.code, done.error["kind"]), (REJECTED, "result not JSON"), done)
            self.assertIn(said, done.error["message"])

    def test_a_result_above_the_limit_is_a_failure_that_names_the_limit(self) -> None:
        done = self.call("long_text", 300_000)
        self.assertEqual((done.code, done.error["kind"]), (REJECTED, "result too large"))
        self.assertIn("the result of 300002 bytes is above the limit of 300000", done.error["message"])

    def test_long_frames_travel_both_ways(self) -> None:
        for size in (65_000, 65_440, 65_536, 131_072, 3_000_000):
            self.assertEqual(self.call("length", "x" * size).value, size)
        for size in (65_494, 65_495, 65_496, 65_497, 65_498, 65_536, 131_024, 131_040, 299_998):
            self.assertEqual(len(self.call("long_text", size).value), size)

    # Failures

    def test_an_exception_is_a_failure_with_the_users_frames(self) -> None:
        done = self.call("raise_value")
        self.assertEqual((done.code, done.after_ms), (FAILURE, AFTER_BY_POLICY))
        self.assertEqual((done.error["kind"], done.error["message"]), ("ValueError", "a bad value"))
        lines = done.error["detail"].splitlines()
        self.assertEqual(lines[0], "Traceback (most recent call last):")
        self.assertRegex(lines[1], r'^  File ".*/app\.py", line \d+, in raise_value$')
        self.assertEqual(lines[-1], "ValueError: a bad value")
        self.assertNotIn("<pool>", done.error["detail"])

    def test_a_chain_of_exceptions_is_shown_whole(self) -> None:
        detail = self.call("raise_chained").error["detail"]
        self.assertIn("KeyError: 'missing'", detail)
        self.assertIn("The above exception was the direct cause", detail)
        self.assertIn("in helper", detail)

    def test_an_exception_that_cannot_say_what_it_is_does_no_harm(self) -> None:
        done = self.call("raise_odd")
        self.assertEqual(done.error["kind"], "app.Odd")
        self.assertEqual(done.error["message"], "(its text can't be read: ValueError)")

    def test_a_job_that_exits_interrupts_recurses_or_eats_memory_is_a_failed_job(self) -> None:
        for function, kind in {
            "interrupt": "KeyboardInterrupt",
            "deep": "RecursionError",
            "greedy": "MemoryError",
        }.items():
            done = self.call(function)
            self.assertEqual((done.code, done.error["kind"]), (FAILURE, kind))
        self.assertEqual(self.call("exit", 0).error["kind"], "SystemExit")
        self.assertEqual(self.call("given").code, SUCCESS)

    # What a job can ask

    def test_a_job_can_ask_who_it_is(self) -> None:
        done = self.worker.call("app.current", job="j\u00fc", queue="mail", attempt=3, timeout_ms=2500)
        expected = {"id": "j\u00fc", "queue": "mail", "task": "app.current", "attempt": 3, "timeout": 2.5}
        self.assertEqual(done.value, expected)
        self.assertIsNone(self.worker.call("app.current").value["timeout"])
        self.assertEqual(self.worker.call("app.current", timeout_ms=7_776_000_000).value["timeout"], 7_776_000)

    def test_a_job_can_ask_to_be_run_again(self) -> None:
        done = self.call("again", 1.5)
        self.assertEqual((done.code, done.after_ms, done.data), (RETRY, 1500, b"not yet"))
        self.assertEqual(self.call("again", None).after_ms, AFTER_BY_POLICY)
        self.assertEqual(self.call("again", 0).after_ms, 0)
        self.assertEqual(self.call("again", 1e12).after_ms, AFTER_BY_POLICY - 1)
        done = self.call("again_wrongly")
        self.assertEqual((done.code, done.error["kind"]), (FAILURE, "ValueError"))

    def test_a_coroutine_runs_to_its_end(self) -> None:
        self.assertEqual(self.call("soon", 1).value, 2)
        self.assertEqual(self.call("lazy").value, 42)

    # Names

    def test_static_and_class_methods_are_tasks(self) -> None:
        self.assertEqual(self.call("Tasks.static").value, "static")
        self.assertEqual(self.call("Tasks.of_class").value, "Tasks")
        self.assertEqual(self.call("Tasks.Inner.static").value, "inner")

    def test_an_object_may_stand_for_its_function(self) -> None:
        self.assertEqual(self.call("decorated", 1).value, 1)
        self.assertEqual(self.call("decorated").code, REJECTED)

    def test_what_is_no_function_of_a_listed_module_is_rejected_with_the_reason(self) -> None:
        for task, said in {
            "os.system": "`os.system` is in no module that jobs may name (they are: `app`",
            "app": "`app` is in no module",
            "app.": "`app.` is not the dotted name of a function",
            "pack.a b.f": "is not the dotted name of a function",
            "app.absent": "`app` has no `absent`",
            "app.VALUE": "`app.VALUE` is not a function",
            "app.Tasks": "`app.Tasks` is not a function",
            "app.Tasks.absent": "`app` has no `Tasks.absent`",
            "app.Tasks.of_instance": "needs an instance",
            "app.foreign": "`app.foreign` is defined in `subprocess`",
            "app.not_one": "is not a function",
            "app._private": "`_private` in `app._private` is private",
            "app.Tasks.__init__": "is private",
            "app.__dict__": "is private",
            "app.os.system": "`os` in `app.os.system` is not a class",
            "app.borrowed": "`app.borrowed` is defined in `subprocess`",
            "app.wrapped": "`app.wrapped` is defined in `dataclasses`",
            "app.given.__call__": "is private",
            "gone.f": "there is no module for `gone.f`",
            "application.f": "is in no module",
            "pack.getpid": "`pack.getpid` is defined in `posix`",
            "pack._hidden.f": "`_hidden` in `pack._hidden.f` is private",
            "pack.absent.f": "`pack` has no `absent`",
            "lone.below.f": "`below` in `lone.below.f` is not a class",
        }.items():
            with self.subTest(task):
                self.assertIn(said, self.rejected(task, "unknown task"))

    def test_a_package_with_a_star_includes_all_below_it(self) -> None:
        self.assertEqual(self.worker.call("pack.inner.f").value, "inner")
        self.assertEqual(self.worker.call("pack.f").value, "inner")

    def test_a_listed_package_may_offer_functions_from_below_itself(self) -> None:
        self.assertEqual(self.worker.call("lone.f").value, "below")

    def test_a_listed_module_is_imported_when_a_job_first_names_it(self) -> None:
        self.assertEqual(self.worker.call("later.pid").value, self.worker.pid)

    def test_a_listed_module_that_does_not_import_fails_the_job_and_may_be_tried_again(self) -> None:
        done = self.worker.call("broken.f")
        self.assertEqual((done.code, done.error["kind"]), (FAILURE, "ModuleNotFoundError"))
        self.assertIn("import absent", done.error["detail"])

    # What a job does besides

    def test_a_child_that_a_job_forks_never_becomes_a_second_worker(self) -> None:
        self.assertEqual(self.call("fork_and_return").value, 0)
        self.assertEqual(self.call("fork_and_raise", None).value, 1)
        self.worker.stderr.wait_for("ValueError: in the child")
        self.assertEqual(self.call("fork_and_raise", 5).value, 5)

    def test_multiprocessing_works_and_its_processes_can_be_terminated(self) -> None:
        self.assertEqual(self.call("use_processes").value, [0, 1, 4, 9] * 3)
        self.assertEqual(self.call("terminate_process").value, -signal.SIGTERM)

    def test_programs_work_and_can_be_interrupted(self) -> None:
        self.assertEqual(self.call("use_program").value, "hello\n")
        self.assertEqual(self.call("interrupt_program").value, -signal.SIGINT)


class OneWorkerEach(unittest.TestCase):
    def setUp(self) -> None:
        self.template = Template({"app.py": APP})
        self.addCleanup(self.template.__exit__)
        self.template.ready("app")

    def worker_and_its_end(self) -> tuple[Worker, socket.socket]:
        """A worker, and a duplicate of its end of the job socket, as the supervisor has one."""
        worker = self.template.ask_for_fork()
        theirs = socket.socket(fileno=os.dup(worker.theirs.fileno()))
        self.addCleanup(theirs.close)
        worker.born(self.template.receive()["pid"])
        return worker.wait_ready(), theirs

    def test_jobs_may_name_the_preload_when_no_modules_are_listed(self) -> None:
        worker = self.template.worker()
        self.assertEqual(worker.call("app.square", [3]).value, 9)
        self.assertEqual(worker.call("later.pid").code, REJECTED)

    def test_a_worker_that_never_waits_counts_as_busy_all_the_time(self) -> None:
        worker = self.template.worker()
        worker.send("app.nap", [0.2])
        for _ in range(20):
            worker.send("app.square", [3])
        jobs = [worker.done() for _ in range(21)]
        for earlier, later in zip(jobs[1:], jobs[2:]):
            self.assertEqual(later.started_ns, earlier.ended_ns)
        self.assertGreaterEqual(jobs[0].ended_ns - jobs[0].started_ns, 200_000_000)

    def test_time_without_a_job_does_not_count(self) -> None:
        worker = self.template.worker()
        first = worker.call("app.square", [3])
        select.select([], [], [], 0.05)
        second = worker.call("app.square", [3])
        self.assertGreaterEqual(second.started_ns - first.ended_ns, 50_000_000)

    def test_a_frame_that_is_taken_back_leaves_the_worker_waiting(self) -> None:
        worker, theirs = self.worker_and_its_end()
        worker.kill(signal.SIGSTOP)
        worker.send("app.square", [2])
        self.assertTrue(theirs.recv(65_536, socket.MSG_DONTWAIT))
        worker.kill(signal.SIGCONT)
        execution = worker.send("app.square", [3])
        done = worker.done()
        self.assertEqual((done.execution, done.value), (execution, 9))

    def test_a_job_that_spoils_standard_output_spoils_nothing_else(self) -> None:
        for function in ("close_output", "break_output"):
            worker = self.template.worker()
            worker.call(f"app.{function}")
            self.assertEqual(worker.call("app.square", [3]).value, 9)
            worker.hang_up()
            self.assertEqual(self.template.status_of(worker), 0)

    def test_sigterm_lets_the_job_end_and_leaves_the_next_one_unread(self) -> None:
        worker, theirs = self.worker_and_its_end()
        worker.send("app.nap", [0.3])
        worker.send("app.nap", [1000])
        worker.stdout.wait_for("running")
        worker.kill(signal.SIGTERM)
        self.assertEqual(worker.done().value, "slept")
        self.assertEqual(self.template.status_of(worker), 0)
        self.assertIn(b"[1000]", theirs.recv(65_536, socket.MSG_DONTWAIT))

    def test_sigterm_ends_a_worker_without_a_job(self) -> None:
        worker = self.template.worker()
        worker.terminate_waiting()
        self.assertEqual(self.template.status_of(worker), 0)

    def test_a_job_that_comes_with_sigterm_is_run_or_left_unread(self) -> None:
        for length in (10, 100_000):  # one packet, and two
            for _ in range(10):
                worker, theirs = self.worker_and_its_end()
                worker.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)  # room for both
                worker.kill(signal.SIGSTOP)
                worker.send("app.length", ["x" * length])
                worker.kill(signal.SIGTERM)
                worker.kill(signal.SIGCONT)
                self.assertEqual(self.template.status_of(worker), 0)
                unread = select.select([theirs], [], [], 0)[0]
                if unread:
                    self.assertIn(b"app.length", theirs.recv(65_536))
                else:
                    self.assertEqual(worker.done().value, length)

    def test_a_second_sigterm_ends_it_at_once(self) -> None:
        worker = self.template.worker()
        worker.send("app.stay")
        worker.stdout.wait_for("running")
        worker.kill(signal.SIGTERM)
        worker.stdout.wait_for("asked to leave")
        worker.kill(signal.SIGTERM)
        self.assertEqual(self.template.status_of(worker), signal.SIGTERM)

    def test_bytes_that_are_no_frame_end_the_worker_with_a_reason(self) -> None:
        run = b"\x02\x01\x00\x00"
        for packets, said in (
            ([b"hello"], "a packet of 5 bytes is shorter than the fixed fields"),
            ([b"\x03\x01\x00\x00" + bytes(32)], "a packet of protocol version 3, expected 2"),
            ([b"\x02\x11\x00\x00" + bytes(32)], "a frame of kind 17, expected 1 (Run)"),
            ([run + b"\xff" * 32], "a length field points past the end of the frame"),
            ([b"\x02\x01\x01\x00" + bytes(32), b"\x02\x11\x00\x00"], "a frame was interrupted"),
            ([b"\x02\x01\x01\x00" + bytes(32), b"x"], "a frame was interrupted"),
            ([b"\x02\x01\x00\x01" + bytes(32)], "a frame whose beginning was taken back"),
            ([b"\x02\x01\x01\x00" + bytes(32), b"\x02\x01\x00\x02"], "a packet is missing in the middle"),
        ):
            with self.subTest(said):
                worker = self.template.worker()
                for packet in packets:
                    worker.socket.send(packet)
                self.assertEqual(self.template.status_of(worker), 1 << 8)
                self.assertIn(f"pool: worker {worker.number}: job socket: {said}", worker.stderr.all())

    def test_end_of_file_in_the_middle_of_a_frame_is_said(self) -> None:
        worker = self.template.worker()
        worker.socket.send(b"\x02\x01\x01\x00" + bytes(32))
        worker.hang_up()
        self.assertEqual(self.template.status_of(worker), 1 << 8)
        self.assertIn("was closed in the middle of a frame", worker.stderr.all())

    def test_a_crash_says_where(self) -> None:
        template = Template({"app.py": "import ctypes\ndef crash(): ctypes.string_at(0)\n"})
        self.addCleanup(template.__exit__)
        worker = template.ready("app").worker()
        worker.send("app.crash")
        self.assertIn(template.status_of(worker) & 0x7F, (signal.SIGSEGV, signal.SIGABRT))
        self.assertIn("in crash", worker.stderr.all())


if __name__ == "__main__":
    unittest.main()
