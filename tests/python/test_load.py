"""What a template does from its start to `ready` or `failed`, and how it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

from supervisor import PYTHON, Template


class Load(unittest.TestCase):
    def refused(self, files: dict[str, str], *preload: str, **values: object) -> dict[str, str]:
        """The `failed` message; the template must then exit with 1."""
        with Template(files) as template:
            answer = template.load(*preload, **values)
            self.assertEqual(answer["type"], "failed", answer)
            self.assertEqual(os.waitstatus_to_exitcode(template.wait_gone()), 1)
            return answer

    def test_ready_names_the_runtime_and_the_time_it_took(self) -> None:
        with Template({"app.py": ""}) as template:
            answer = template.load("app")
            self.assertRegex(answer["runtime"], r"^python 3\.\d+\.\d+$")
            self.assertGreater(answer["load_s"], 0)
            self.assertEqual(answer["warnings"], [])
            self.assertEqual(answer["collapse_skipped"], "app.huge_pages is off")

    def test_the_apps_directory_is_first_on_the_module_path(self) -> None:
        files = {"json_like.py": "", "app.py": "import sys, json_like\ndef first(): return sys.path[0]\n"}
        with Template(files) as template:
            worker = template.ready("app").worker()
            self.assertEqual(worker.call("app.first").value, os.path.realpath(template.directory))

    def test_before_fork_is_called_once_and_after_fork_in_each_worker(self) -> None:
        app = (
            "import os\ncalls = []\n"
            "def before(): calls.append(('before', os.getpid()))\n"
            "class Hooks:\n    @staticmethod\n    def after(): calls.append(('after', os.getpid()))\n"
            "def seen(): return calls\n"
        )
        with Template({"app.py": app}) as template:
            template.ready("app", before_fork=["app.before"], after_fork=["app.Hooks.after"])
            for worker in (template.worker(), template.worker()):
                calls = [["before", template.pid], ["after", worker.pid]]
                self.assertEqual(worker.call("app.seen").value, calls)

    def test_a_module_that_is_missing_is_named_with_the_place_that_was_searched(self) -> None:
        answer = self.refused({}, "shop")
        self.assertIn("cannot import `shop`: ModuleNotFoundError: No module named 'shop'", answer["error"])
        self.assertIn("the module path begins with /", answer["error"])

    def test_a_python_without_the_package_of_a_dialect_is_named_with_the_way_out(self) -> None:
        for package, dialect in (("celery", "celery"), ("rq", "rq")):
            with tempfile.TemporaryDirectory() as directory:
                # Python runs it at its start: the package is hidden if it is there.
                Path(directory, "sitecustomize.py").write_text(f"import sys\nsys.modules[{package!r}] = None\n")
                with Template({}, environment={"PYTHONPATH": directory}) as template:
                    error = template.load(dialect=dialect, options={"app": "proj", "url": "redis://"})["error"]
            self.assertIn(f"has no package `{package}`", error)
            self.assertIn(PYTHON, error)
            self.assertIn("--python", error)

    def test_modules_of_jobs_are_imported_at_load_only_where_that_is_asked_for(self) -> None:
        files = {"app.py": "ready = False\ndef before():\n    global ready\n    ready = True\n", "jobs/__init__.py": ""}
        files["jobs/mail.py"] = "import app\nassert app.ready\n"
        with Template(files) as template:
            template.ready("app", modules=["shop"])
        with Template(files) as template:  # once the hooks have run
            modules = ["jobs.mail", "jobs.*"]
            template.ready("app", modules=modules, before_fork=["app.before"], import_modules=True)
        for module in ("shop", "shop.*"):
            answer = self.refused(files, "app", modules=[module], import_modules=True)
            expected = "cannot import `shop` (app.modules): ModuleNotFoundError: No module named 'shop'"
            self.assertIn(expected, answer["error"])

    def test_a_failing_import_shows_the_users_frames_alone(self) -> None:
        files = {"app.py": "import inner\n", "inner.py": "def f():\n    return 1 / 0\nf()\n"}
        answer = self.refused(files, "app")
        self.assertEqual(answer["error"], "cannot import `app`: ZeroDivisionError: division by zero")
        shown = [line.split('"')[1] for line in answer["detail"].splitlines() if line.startswith("  File")]
        self.assertEqual([Path(file).name for file in shown], ["app.py", "inner.py", "inner.py"])
        self.assertIn("return 1 / 0", answer["detail"])

    def test_a_module_that_exits_does_not_load(self) -> None:
        answer = self.refused({"app.py": "import sys\nsys.exit('no')\n"}, "app")
        self.assertEqual(answer["error"], "cannot import `app`: SystemExit: no")

    def test_a_module_that_does_not_parse_shows_where(self) -> None:
        answer = self.refused({"app.py": "def f(:\n"}, "app")
        self.assertIn("SyntaxError", answer["error"])
        self.assertIn("def f(:", answer["detail"])

    def test_a_hook_that_is_not_there_is_named_with_its_setting(self) -> None:
        answer = self.refused({"app.py": ""}, "app", after_fork=["app.connect"])
        self.assertEqual(answer["error"], "the hook `app.connect` (app.after_fork) is not a function of `app`")
        answer = self.refused({"app.py": ""}, "app", before_fork=["nowhere.connect"])
        self.assertIn("`nowhere.connect` (app.before_fork) is in no module that can be imported", answer["error"])

    def test_a_before_fork_hook_that_fails_is_a_failed_load(self) -> None:
        app = "def before(): raise OSError('no disk')\n"
        answer = self.refused({"app.py": app}, "app", before_fork=["app.before"])
        self.assertEqual(answer["error"], "the hook `app.before` (app.before_fork) failed: OSError: no disk")

    def test_an_endless_error_still_fits_into_a_packet(self) -> None:
        answer = self.refused({"app.py": "raise ValueError('\u00e4' * 1_000_000)\n"}, "app")
        self.assertIn("left out", answer["error"])

    def test_a_virtual_environment_is_honoured(self) -> None:
        with Template({}) as outer:  # for its directory
            environment = Path(outer.directory, "venv")
            subprocess.run([PYTHON, "-m", "venv", "--without-pip", environment], check=True)
            site = next(environment.glob("lib/python*/site-packages"))
            (site / "only_in_venv.py").write_text("import sys\ndef prefix(): return sys.prefix\n")
            with Template({}, python=str(environment / "bin" / "python")) as template:
                worker = template.ready("only_in_venv").worker()
                self.assertEqual(worker.call("only_in_venv.prefix").value, str(environment))

    def test_our_modules_win_over_the_users_of_the_same_name(self) -> None:
        files = {"pool_template/__init__.py": "raise SystemExit", "pool_job.py": "raise SystemExit", "app.py": ""}
        with Template(files) as template:
            template.ready("app").worker()


class Leave(unittest.TestCase):
    APP = "import atexit\natexit.register(print, 'the app says goodbye')\ndef noop(): pass\n"

    def test_stop_ends_the_template_and_not_its_workers(self) -> None:
        with Template({"app.py": self.APP}) as template:
            worker = template.ready("app").worker()
            template.send("stop")
            self.assertEqual(template.wait_gone(), 0)
            template.stdout.wait_for("the app says goodbye")
            self.assertIsNone(worker.call("app.noop").value)

    def test_end_of_file_on_the_control_socket_means_stop(self) -> None:
        with Template({"app.py": self.APP}) as template:
            worker = template.ready("app").worker()
            template.control.close()
            self.assertEqual(template.wait_gone(), 0)
            self.assertIsNone(worker.call("app.noop").value)

    def test_sigterm_means_stop(self) -> None:
        with Template({"app.py": self.APP}) as template:
            template.ready("app")
            os.kill(template.pid, signal.SIGTERM)
            self.assertEqual(template.wait_gone(), 0)

    def test_a_thread_of_the_app_does_not_hold_the_template_back(self) -> None:
        app = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
        with Template({"app.py": app}) as template:
            template.ready("app")
            template.send("stop")
            self.assertEqual(template.wait_gone(), 0)

    def test_ctrl_c_leaves_template_and_worker_alone(self) -> None:
        app = "import time\ndef nap(): time.sleep(0.2); return 'slept'\n"
        with Template({"app.py": app}) as template:
            worker = template.ready("app").worker()
            execution = worker.send("app.nap")
            os.kill(template.pid, signal.SIGINT)
            worker.kill(signal.SIGINT)
            self.assertEqual((worker.done().execution), execution)
            template.worker()

    def test_a_killed_template_leaves_its_workers_at_work(self) -> None:
        with Template({"app.py": self.APP}) as template:
            worker = template.ready("app").worker()
            os.kill(template.pid, signal.SIGKILL)
            template.wait_gone()
            self.assertIsNone(worker.call("app.noop").value)

    def test_a_message_that_makes_no_sense_ends_the_template_with_a_reason(self) -> None:
        with Template({"app.py": ""}) as template:
            template.ready("app")
            template.control.send(b"{nonsense")
            self.assertEqual(os.waitstatus_to_exitcode(template.wait_gone()), 1)
            template.stderr.wait_for("a control packet of 9 bytes is not a message")


if __name__ == "__main__":
    unittest.main()
