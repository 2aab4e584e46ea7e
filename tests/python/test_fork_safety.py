"""The report at `ready`: each finding names its culprit and its remedy."""

from __future__ import annotations

import socket
import unittest

from supervisor import Template


class ForkSafety(unittest.TestCase):
    def warnings(self, app: str, **values: object) -> list[str]:
        with Template({"app.py": app}) as template:
            answer = template.load("app", **values)
            self.assertEqual(answer["type"], "ready", answer)
            worker = template.fork()
            worker.hang_up()
            self.assertEqual(template.status_of(worker), 0)
            return answer["warnings"]

    def one(self, app: str, **values: object) -> str:
        found = self.warnings(app, **values)
        self.assertEqual(len(found), 1, found)
        return found[0]

    def test_an_app_that_holds_nothing_gets_no_warning(self) -> None:
        self.assertEqual(self.warnings("import json, logging, threading, socket, subprocess\n"), [])

    def test_a_thread_is_named_with_what_it_runs(self) -> None:
        app = (
            "import threading\n"
            "def watch(): threading.Event().wait()\n"
            "threading.Thread(target=watch, name='watcher', daemon=True).start()\n"
        )
        warning = self.one(app)
        self.assertIn("thread `watcher` is running `app.watch`", warning)
        self.assertIn("start it in an `after_fork` hook, or stop it in `before_fork`", warning)

    def test_a_thread_of_a_class_is_named_by_the_class(self) -> None:
        app = (
            "import threading\n"
            "class Reporter(threading.Thread):\n"
            "    def run(self): threading.Event().wait()\n"
            "Reporter(daemon=True).start()\n"
        )
        self.assertIn("is running `app.Reporter`", self.one(app))

    def test_threads_outside_pythons_sight_are_counted(self) -> None:
        app = (
            "import _thread, threading\nstarted = threading.Semaphore(0)\n"
            "def run(): started.release(); threading.Event().wait()\n"
            "for _ in range(2): _thread.start_new_thread(run, ())\n"
            "for _ in range(2): started.acquire()\n"
        )
        found = [warning for warning in self.warnings(app) if "2 threads named" in warning]
        self.assertEqual(len(found), 1)
        self.assertIn("in an `after_fork` hook", found[0])

    def test_a_connection_is_named_with_its_peer_and_its_holder(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            app = (
                "import socket\n"
                "class Client:\n"
                f"    def __init__(self): self.sock = socket.create_connection(('127.0.0.1', {port}))\n"
                "client = Client()\n"
            )
            warning = self.one(app)
        self.assertRegex(warning, rf"^socket \d+ to 127\.0\.0\.1:{port}, held by `app\.Client`, is open: ")
        self.assertTrue(warning.endswith("open it in an `after_fork` hook, or when a job first needs it"))

    def test_a_listening_socket_and_a_socket_pair_are_named(self) -> None:
        warning = self.one("import socket\nserver = socket.create_server(('127.0.0.1', 0))\n")
        self.assertRegex(warning, r"^socket \d+ bound to 127\.0\.0\.1:\d+ is open")
        found = self.warnings("import socket\npair = socket.socketpair()\n")
        self.assertEqual(len(found), 2)
        self.assertIn("to an unnamed peer", found[0])

    def test_an_event_loop_is_shared_too(self) -> None:
        found = self.warnings("import asyncio\nloop = asyncio.new_event_loop()\n")
        self.assertEqual(sum("an event loop (epoll" in warning for warning in found), 1, found)

    def test_what_a_before_fork_hook_closes_is_not_reported(self) -> None:
        app = "import socket\npair = socket.socketpair()\ndef close():\n    for each in pair: each.close()\n"
        self.assertEqual(self.warnings(app, before_fork=["app.close"]), [])


if __name__ == "__main__":
    unittest.main()
