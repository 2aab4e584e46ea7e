"""A job that runs longer than its timeout is interrupted, and the next one knows nothing of it."""

from __future__ import annotations

import select
import unittest

from supervisor import FAILURE, RETRY, SUCCESS, TIMED_OUT, Template

APP = """
import asyncio, signal, socket, time
from pool_job import JobTimeout, Retry

def sleep(seconds): time.sleep(seconds); return 'slept'
def spin():
    while True: pass
def listen():
    with socket.create_server(('127.0.0.1', 0)) as server: server.accept()
def tidy():
    try: time.sleep(1000)
    except JobTimeout: return 'tidied up'
def wrap():
    try: time.sleep(1000)
    except Exception as error: raise RuntimeError('the query failed') from error
def postpone():
    try: time.sleep(1000)
    except JobTimeout: raise Retry(after=60)
def pretend(): raise JobTimeout('not really')
async def wait():
    try: await asyncio.sleep(1000)
    finally: print('cleaned')
async def spin_async():
    while True: await asyncio.sleep(0)
async def block(): time.sleep(1000)
def own_alarm():
    rung = []
    signal.signal(signal.SIGALRM, lambda *_: rung.append('rung'))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    time.sleep(0.2)
    return rung
def no_timer_left(): return signal.getitimer(signal.ITIMER_REAL)[0] == 0
"""


class Timeouts(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.template = Template({"app.py": APP}).__enter__()
        cls.addClassCleanup(cls.template.__exit__)
        cls.worker = cls.template.ready("app").worker()

    def test_sleep_loop_and_system_call_are_interrupted(self) -> None:
        for task, args in (("app.sleep", [1000]), ("app.spin", None), ("app.listen", None)):
            done = self.worker.call(task, args, timeout_ms=100)
            self.assertEqual(done.code, TIMED_OUT, done)
            self.assertEqual(done.error["kind"], "timeout")
            self.assertEqual(done.error["message"], "ran longer than its timeout of 0.1s")
            self.assertIn(f"in {task[4:]}", done.error["detail"])
            self.assertNotIn("_strike", done.error["detail"])
            self.assertGreaterEqual(done.ended_ns - done.started_ns, 100_000_000)

    def test_coroutines_are_interrupted_and_clean_up(self) -> None:
        self.assertEqual(self.worker.call("app.wait", timeout_ms=100).code, TIMED_OUT)
        self.worker.stdout.wait_for("cleaned")
        for _ in range(20):
            self.assertEqual(self.worker.call("app.spin_async", timeout_ms=10).code, TIMED_OUT)
        self.assertEqual(self.worker.call("app.sleep", [0], timeout_ms=60_000).code, SUCCESS)

    def test_a_coroutine_that_blocks_its_loop_is_interrupted_too(self) -> None:
        done = self.worker.call("app.block", timeout_ms=100)
        self.assertEqual((done.code, done.error["kind"]), (TIMED_OUT, "timeout"))
        self.assertEqual(done.error["message"], "ran longer than its timeout of 0.1s")

    def test_a_job_within_its_timeout_is_left_alone(self) -> None:
        self.assertEqual(self.worker.call("app.sleep", [0.01], timeout_ms=60_000).value, "slept")

    def test_the_timeout_of_one_job_never_strikes_the_next(self) -> None:
        self.worker.send("app.sleep", [0], timeout_ms=100)
        self.worker.send("app.sleep", [0.3])
        self.worker.send("app.sleep", [0], timeout_ms=100)
        self.worker.send("app.sleep", [0.3], timeout_ms=60_000)
        self.assertEqual([self.worker.done().code for _ in range(4)], [SUCCESS] * 4)

    def test_an_alarm_while_there_is_no_job_does_nothing(self) -> None:
        self.worker.call("app.sleep", [0], timeout_ms=20)
        self.assertEqual(select.select([self.worker.socket], [], [], 0.1)[0], [])
        self.assertEqual(self.worker.call("app.sleep", [0]).code, SUCCESS)

    def test_a_job_may_tidy_up_and_return(self) -> None:
        self.assertEqual(self.worker.call("app.tidy", timeout_ms=50).value, "tidied up")

    def test_an_interruption_that_a_library_wraps_is_still_a_timeout(self) -> None:
        done = self.worker.call("app.wrap", timeout_ms=50)
        self.assertEqual((done.code, done.error["kind"]), (TIMED_OUT, "timeout"))
        self.assertIn("RuntimeError: the query failed", done.error["detail"])

    def test_a_job_may_answer_its_timeout_with_a_retry(self) -> None:
        done = self.worker.call("app.postpone", timeout_ms=50)
        self.assertEqual((done.code, done.after_ms), (RETRY, 60_000))

    def test_a_job_that_raises_the_exception_itself_has_merely_failed(self) -> None:
        done = self.worker.call("app.pretend", timeout_ms=60_000)
        self.assertEqual((done.code, done.error["kind"]), (FAILURE, "pool_job.JobTimeout"))

    def test_a_job_without_a_timeout_may_use_the_alarm_and_the_next_one_has_its_timeout(self) -> None:
        self.worker.call("app.sleep", [0], timeout_ms=60_000)
        self.assertTrue(self.worker.call("app.no_timer_left").value)
        self.assertEqual(self.worker.call("app.own_alarm").value, ["rung"])
        self.assertEqual(self.worker.call("app.sleep", [1000], timeout_ms=50).code, TIMED_OUT)


if __name__ == "__main__":
    unittest.main()
