"""What a job changes, and what the next one sees of it; what a job looks like, and what it leaves in texts."""

from __future__ import annotations

import json
import subprocess
import unittest

from supervisor import FAILURE, PYTHON, REJECTED, Template, Worker

APP = r"""
import asyncio, sys, warnings
import pool_job

async def later(): return 1
async def leaves_a_task():
    async def work():
        try: await asyncio.sleep(1000)
        finally: ended.append('ended')
    asyncio.ensure_future(work())
    await asyncio.sleep(0)
    return 'left'
ended = []
def seen(): return ended
def old_style():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return asyncio.get_event_loop().run_until_complete(later())
async def current_loops():
    return asyncio.get_event_loop() is asyncio.get_running_loop()

def version(): return 1
class Tasks:
    @classmethod
    def version(cls): return 1
def upgrade():
    me = sys.modules[__name__]
    def version(): return 2
    version.__module__ = __name__
    me.version = version
    Tasks.version = classmethod(lambda cls: 2)
def upgrade_to_batches():
    @pool_job.batch(size=2)
    def version(jobs): return [3 for _ in jobs]
    version.__module__ = __name__
    sys.modules[__name__].version = version
def remove(): del sys.modules[__name__].version

class Proxy:
    def __getattr__(self, name): return lambda *args: name
    def __call__(self, *args): return [type(each).__name__ for each in args]
proxy = Proxy()
class Refusing(Proxy):
    def __getattr__(self, name): raise KeyError(name)
refusing = Refusing()

FILE = b'caf\xe9.csv'.decode('utf-8', 'surrogateescape')
def fails(): raise ValueError('cannot read ' + FILE)
def asks(): raise pool_job.Retry(reason='cannot read ' + FILE)
def odd_kind(): raise type('Odd\udce9', (Exception,), {})('x')
"""


class Changes(unittest.TestCase):
    def start(self, fresh: bool = False) -> Worker:
        template = Template({"app.py": APP})
        self.addCleanup(template.__exit__)
        return template.ready("app", fresh=fresh).worker()

    def test_after_a_coroutine_a_job_finds_an_event_loop_as_before(self) -> None:
        newer = subprocess.run([PYTHON, "-c", "import sys; sys.exit(sys.version_info >= (3, 14))"], timeout=60)
        if newer.returncode:
            self.skipTest("this Python makes no loop for those who ask")
        for fresh in (False, True):
            worker = self.start(fresh)
            for task in ("app.old_style", "app.later", "app.old_style"):
                self.assertEqual(worker.call(task).value, 1, task)

    def test_a_coroutine_finds_its_loop_and_what_it_leaves_running_is_canceled(self) -> None:
        worker = self.start()
        self.assertIs(worker.call("app.current_loops").value, True)
        self.assertEqual(worker.call("app.leaves_a_task").value, "left")
        self.assertEqual(worker.call("app.seen").value, ["ended"])

    def test_a_function_that_a_job_replaces_is_heeded_by_the_next(self) -> None:
        for fresh, expected in ((False, 2), (True, 1)):
            worker = self.start(fresh)
            for task in ("app.version", "app.Tasks.version"):
                self.assertEqual(worker.call(task).value, 1)
            worker.call("app.upgrade")
            for task in ("app.version", "app.Tasks.version"):
                self.assertEqual(worker.call(task).value, expected)

    def test_a_function_may_become_a_batch_task_or_go(self) -> None:
        worker = self.start()
        self.assertEqual(worker.call("app.version").value, 1)
        worker.call("app.upgrade_to_batches")
        self.assertEqual(worker.call("app.version").value, 3)
        worker.call("app.remove")
        done = worker.call("app.version")
        self.assertEqual((done.code, done.error["kind"]), (REJECTED, "unknown task"))

    def test_a_callable_that_answers_to_every_attribute_gets_the_jobs_arguments(self) -> None:
        for fresh in (False, True):
            worker = self.start(fresh)
            for task in ("app.proxy", "app.refusing"):
                self.assertEqual(worker.call(task, [1, "a"]).value, ["int", "str"])

    def test_texts_with_bytes_of_file_names_are_readable_by_everybody(self) -> None:
        for fresh in (False, True):
            worker = self.start(fresh)
            done = worker.call("app.fails")
            self.assertEqual((done.code, done.error["kind"]), (FAILURE, "ValueError"))
            self.assertEqual(done.error["message"], r"cannot read caf\udce9.csv")
            self.assertIn(r"ValueError: cannot read caf\udce9.csv", done.error["detail"])
            for task in ("app.fails", "app.asks", "app.odd_kind"):
                data = worker.call(task).data
                json.dumps(data.decode() if task == "app.asks" else json.loads(data), ensure_ascii=False).encode()

    def test_so_is_what_a_template_says_that_can_not_load(self) -> None:
        with Template({"app.py": APP + "fails()\n"}) as template:
            error = template.load("app")["error"]
            error.encode()
            self.assertIn("cannot read caf", error)


if __name__ == "__main__":
    unittest.main()
