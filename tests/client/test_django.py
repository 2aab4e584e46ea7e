"""Django's tasks on both brokers: a project with its own workers."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from kit import PATIENCE_S, POOL, ROOT, RedisKit, SqliteKit, until

SITE = Path(__file__).resolve().parent / "site"


#: Of both brokers: the settings of a process can't be changed.
DIRECTORY = tempfile.TemporaryDirectory()


def set_up_django():
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    os.environ["SITE_DATABASE"] = str(Path(DIRECTORY.name, "site.db"))
    sys.path[:] = [str(SITE), *(entry for entry in sys.path if entry != str(SITE))]
    import django

    django.setup()


def project():
    """The tasks of the project, and its backends; its database has its table."""
    set_up_django()
    from django.db import connection
    from store import tasks

    from poolhouse.django.tasks import task_backends

    with connection.schema_editor() as editor:
        if "store_order" not in connection.introspection.table_names():
            editor.create_model(tasks.Order)
    return tasks, task_backends


class Rules:
    """Run over each broker."""

    @classmethod
    def setUpClass(cls):
        cls.kit = cls.make_kit()
        cls.addClassCleanup(cls.kit.stop)
        cls.tasks, cls.backends = project()
        cls.kit.environment.update(
            SITE_BROKER=cls.kit.url,
            SITE_DATABASE=os.environ["SITE_DATABASE"],
            DJANGO_SETTINGS_MODULE="settings",
            PATH=f"{Path(POOL).parent}:{os.environ['PATH']}",
            PYTHONPATH=f"{ROOT / 'python'}:{SITE}",
        )
        cls.kit.environment.pop("POOL_BROKER")
        cls.kit.run([sys.executable, "manage.py", "pool", "--min-workers", "1", "--max-workers", "1"], SITE)

    def setUp(self):
        from poolhouse.django.backend import PoolBackend

        params = {"QUEUES": ["default", "mail"], "OPTIONS": {"BROKER": self.kit.url}}
        self.backends["default"] = PoolBackend("default", params)
        self.addCleanup(self.backends["default"].close)

    def ended(self, result):
        """The result once its task has ended."""

        def has_ended():
            result.refresh()
            return result.is_finished

        until(has_ended, f"{result.task.name} has ended")
        return result

    def test_a_task_runs_and_its_result_comes(self):
        for call, value in (
            (self.tasks.add.enqueue(1, 2), 3),
            (self.tasks.add.enqueue(a=1), 1),
            (self.tasks.add.enqueue(1, b=5), 6),
            (self.tasks.twice.enqueue(4), 8),
        ):
            with self.subTest(args=call.args, kwargs=call.kwargs):
                result = self.ended(call)
                self.assertEqual((str(result.status), result.return_value, result.attempts >= 1), ("SUCCESSFUL", value, True))

    def test_a_result_is_found_by_its_id(self):
        first = self.tasks.add.enqueue(1, b=5)
        enqueued_at = first.enqueued_at
        self.ended(first)
        found = self.tasks.add.get_result(first.id)
        self.assertEqual((found.args, found.kwargs, found.return_value), ([1], {"b": 5}, 6))
        self.assertEqual(found.task.module_path, "store.tasks.add")
        self.assertEqual(found.enqueued_at, enqueued_at)
        from poolhouse.django.tasks import TaskResultDoesNotExist

        with self.assertRaises(TaskResultDoesNotExist):
            self.tasks.add.get_result("never")
        with self.assertRaisesRegex(Exception, "does not match"):
            self.tasks.twice.get_result(first.id)

    def test_a_failure_has_its_class_and_its_traceback(self):
        result = self.ended(self.tasks.fail.enqueue("no shoes"))
        (error,) = result.errors
        self.assertEqual((str(result.status), result.attempts), ("FAILED", 1))
        self.assertTrue(result.enqueued_at <= result.started_at <= result.last_attempted_at <= result.finished_at)
        self.assertEqual((error.exception_class_path, error.exception_class), ("store.tasks.OutOfStock", self.tasks.OutOfStock))
        self.assertIn("no shoes", error.traceback)
        with self.assertRaises(ValueError):
            result.return_value

    def test_a_task_writes_to_the_database(self):
        result = self.ended(self.tasks.order.enqueue("socks"))
        self.assertEqual(self.tasks.Order.objects.get(pk=result.return_value).name, "socks")

    def test_a_task_gets_its_context(self):
        result = self.ended(self.tasks.about.enqueue(1, word="x"))
        self.assertEqual(result.return_value, [result.id, 1, [1], {"word": "x"}])

    def test_signals_are_sent_in_the_worker(self):
        self.ended(self.tasks.add.enqueue(1))
        seen = self.ended(self.tasks.seen.enqueue()).return_value
        self.assertIn(["started", "add", "RUNNING"], seen)
        self.assertIn(["finished", "add", "SUCCESSFUL"], seen)

    def test_a_task_is_enqueued_when_its_transaction_commits(self):
        from django.db import transaction

        from poolhouse.django.tasks import TaskResultDoesNotExist

        with transaction.atomic():
            result = self.tasks.add.enqueue(1)
            with self.assertRaises(TaskResultDoesNotExist):
                result.refresh()
            self.assertIsNone(result.enqueued_at)
        self.assertIsNotNone(result.enqueued_at)
        self.assertEqual(self.ended(result).return_value, 1)
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            gone = self.tasks.add.enqueue(1)
            1 / 0
        with self.assertRaises(TaskResultDoesNotExist):
            gone.refresh()

    def test_a_task_can_be_enqueued_within_a_transaction(self):
        from django.db import transaction

        from poolhouse.django.backend import PoolBackend

        options = {"BROKER": self.kit.url, "ENQUEUE_ON_COMMIT": False}
        self.backends["default"] = PoolBackend("default", {"OPTIONS": options})
        self.addCleanup(self.backends["default"].close)
        with transaction.atomic():
            self.assertIsNotNone(self.tasks.add.enqueue(1).enqueued_at)

    def test_a_task_is_run_after_its_time(self):
        from datetime import timedelta

        from django.utils import timezone

        late = self.tasks.add.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(1)
        late.refresh()
        self.assertEqual(str(late.status), "READY")
        soon = self.tasks.add.using(run_after=timezone.now() + timedelta(seconds=1)).enqueue(2)
        self.assertEqual(self.ended(soon).return_value, 2)

    def test_options_of_the_backend_hold_for_its_tasks(self):
        from poolhouse.django.backend import PoolBackend
        from poolhouse.django.results import _STATUS
        from poolhouse.model import State

        options = {"BROKER": self.kit.url, "EXPIRES": "1s", "LIMIT": ("stock", 1)}
        backend = PoolBackend("default", {"QUEUES": ["later"], "OPTIONS": options})
        self.addCleanup(backend.close)
        self.backends["default"] = backend
        late = self.tasks.add.using(queue_name="later").enqueue(1)
        self.assertEqual(str(late.status), "READY")
        self.assertEqual(self.kit.limit_of(late.id), ("stock", 1))
        until(lambda: self.kit.is_expired(late.id), "its time passes")
        self.assertEqual(set(_STATUS), set(State), "wherever a task is, Django has a word for it")

    def test_coroutines_enqueue_and_look(self):
        async def main():
            result = await self.tasks.add.aenqueue(1, 1)
            deadline = time.monotonic() + PATIENCE_S
            while not result.is_finished and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
                await result.arefresh()
            return (await self.tasks.add.aget_result(result.id)).return_value

        self.assertEqual(asyncio.run(main()), 2)

    def test_what_the_backend_can_not_do_is_refused(self):
        with self.assertRaises(Exception) as raised:
            self.tasks.add.using(priority=10)
        self.assertIn("priority", str(raised.exception))
        with self.assertRaisesRegex(Exception, "Queue 'other' is not valid"):
            self.tasks.add.using(queue_name="other").enqueue(1)
        with self.assertRaises(TypeError):
            self.tasks.add.enqueue(object())

    def test_queues_that_somebody_names_are_served_in_place_of_the_backend_s(self):
        several = self.kit.directory / "pools.toml"
        several.write_text('[pools.slow]\nqueues = ["mail"]\n[pools.quick]\nqueues = ["default"]\n')
        for flags, environment, served in (
            ([], {}, [["default", "mail"]]),
            (["--queue", "mail"], {}, [["mail"]]),
            ([], {"POOL_QUEUE": "mail"}, [["mail"]]),
            ([], {"POOL_CONFIG": str(several)}, [["default"], ["mail"]]),
        ):
            with self.subTest(flags=flags, environment=environment):
                command = [sys.executable, "manage.py", "pool", "--print-config", *flags]
                environment = {**self.kit.environment, **environment}
                done = subprocess.run(command, cwd=SITE, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
                self.assertEqual(done.returncode, 0, done.stderr)
                lines = re.findall(r"^queues = (.*)$", done.stdout, re.MULTILINE)
                self.assertEqual([json.loads(line) for line in lines], served)

    def test_the_checks_name_a_wrong_option(self):
        from django.core.exceptions import ImproperlyConfigured

        from poolhouse.django.backend import PoolBackend

        right, self.backends["default"] = self.backends["default"], PoolBackend("default", {"OPTIONS": {"BROKR": "x"}})
        for use in (lambda: self.tasks.add.enqueue(1), lambda: self.tasks.add.get_result("an id")):
            with self.assertRaisesRegex(ImproperlyConfigured, "unknown OPTIONS BROKR; there are BROKER"):
                use()
        self.backends["default"] = right
        wrong = PoolBackend("default", {"OPTIONS": {"TIMEOUT": "soon", "DATABASE": "other"}})
        self.assertEqual([error.id for error in wrong.check()], ["poolhouse.E001", "poolhouse.E002"])
        self.assertEqual(list(self.backends["default"].check()), [])


class BrokerAway:
    """What becomes of a transaction with tasks when no broker takes them."""

    @classmethod
    def setUpClass(cls):
        cls.tasks, cls.backends = project()

    def setUp(self):
        self.tasks.Order.objects.all().delete()
        self.use()
        self.addCleanup(self.backends.__delitem__, "default")

    def use(self, **options):
        from poolhouse.django.backend import PoolBackend

        self.backends["default"] = PoolBackend("default", {"OPTIONS": {"BROKER": self.url(), **options}})

    def names(self):
        return [order.name for order in self.tasks.Order.objects.order_by("pk")]

    def test_the_error_comes_after_the_commit(self):
        from django.db import transaction

        from poolhouse import BrokerError

        ran = []
        with self.assertRaises(BrokerError), transaction.atomic():
            self.tasks.Order.objects.create(name="socks")
            transaction.on_commit(lambda: ran.append("before"))
            result = self.tasks.add.enqueue(1)
            transaction.on_commit(lambda: ran.append("after"))
        self.assertEqual((self.names(), ran), (["socks"], ["before"]))
        self.assertIsNone(result.enqueued_at)
        with self.assertRaises(BrokerError):
            result.refresh()

    def test_a_robust_callback_logs_the_error(self):
        from django.db import transaction

        ran = []
        with self.assertLogs("django.db.backends.base", "ERROR") as logged, transaction.atomic():
            self.tasks.Order.objects.create(name="socks")
            # A lambda: Django 5.2 can't log the name of a `partial`.
            transaction.on_commit(lambda: self.tasks.add.enqueue(1), robust=True)
            transaction.on_commit(lambda: ran.append("after"))
        self.assertEqual((self.names(), ran), (["socks"], ["after"]))
        self.assertIn("Error calling", logged.output[0])

    def test_the_error_rolls_back_what_does_not_wait_for_the_commit(self):
        from django.db import transaction

        from poolhouse import BrokerError

        self.use(ENQUEUE_ON_COMMIT=False)
        with self.assertRaises(BrokerError), transaction.atomic():
            self.tasks.Order.objects.create(name="socks")
            self.tasks.add.enqueue(1)
        self.assertEqual(self.names(), [])


class SqliteAway(BrokerAway, unittest.TestCase):
    def url(self):
        return f"sqlite:{os.devnull}/pool.db"


class RedisAway(BrokerAway, unittest.TestCase):
    def url(self):
        nobody = socket.socket()
        self.addCleanup(nobody.close)
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        return f"redis://127.0.0.1:{nobody.getsockname()[1]}/0"


class WrongSettings(unittest.TestCase):
    """What is wrong in `TASKS` is told by Django's system checks, and by `manage.py pool`."""

    @classmethod
    def setUpClass(cls):
        set_up_django()

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="pool-django-")
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def errors_of(self, **entry):
        from poolhouse.django.backend import PoolBackend

        return [(error.id, error.msg, error.hint) for error in PoolBackend("slow", entry).check()]

    def package(self):
        from poolhouse.django.tasks import Task

        return Task.__module__.rpartition(".")[0]

    def manage(self, tasks, *arguments, path=f"{Path(POOL).parent}:{os.environ['PATH']}"):
        """`manage.py` of a project with these `TASKS`: its exit code and what it says to stderr."""
        (self.directory / "wrong.py").write_text(f"from settings import *\nTASKS = {tasks}\n")
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "wrong",
            "PATH": path,
            "PYTHONPATH": f"{ROOT / 'python'}:{SITE}:{self.directory}",
            "HOME": str(self.directory),
            "POOL_CONFIG": os.devnull,
        }
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=SITE, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
        self.assertNotIn("Traceback", done.stderr)
        return done.returncode, done.stderr.strip()

    def test_each_option_is_checked(self):
        for name, value, id in (
            ("BROKER", "localhost:6379", "E004"),
            ("BROKER", "redis://localhost:port/0", "E004"),
            ("BROKER", "sqlite:", "E004"),
            ("BROKER", Path("/srv/pool.db"), "E002"),
            ("FSYNC", "no", "E002"),
            ("TIMEOUT", "soon", "E002"),
            ("TIMEOUT", 0, "E002"),
            ("RETRIES", -1, "E002"),
            ("RETRIES", "3", "E002"),
            ("RESULT_TTL", -1, "E002"),
            ("EXPIRES", "never", "E002"),
            ("LIMIT", 3, "E002"),
            ("LIMIT", ("database", 0), "E002"),
            ("ENQUEUE_ON_COMMIT", "no", "E002"),
            ("DATABASE", "other", "E001"),
            ("DATABASE", ["default"], "E002"),
            ("BROKR", "redis://localhost", "E003"),
            (3, 3, "E003"),
        ):
            with self.subTest(name=name, value=value):
                ((found, message, hint),) = self.errors_of(OPTIONS={name: value})
                self.assertEqual(found, f"poolhouse.{id}")
                self.assertTrue(message.startswith("TASKS['slow']: ") and message.endswith("."), message)
                self.assertTrue(hint.endswith((".", "?")), hint)

    def test_the_entry_is_checked(self):
        for entry, said in (
            ({"OPTIONS": None}, "OPTIONS is a NoneType."),
            ({"OPTIONS": ["BROKER"]}, "OPTIONS is a list."),
            ({"QUEUES": "mail"}, "QUEUES is 'mail'."),
            ({"QUEUES": [3]}, "QUEUES is [3]."),
            ({"QUEUES": None}, "QUEUES is None."),
            ({"RETRIES": 3}, "RETRIES is beside OPTIONS."),
        ):
            with self.subTest(entry):
                self.assertEqual([message for _, message, _ in self.errors_of(**entry)], [f"TASKS['slow']: {said}"])

    def test_what_may_be_said_is_no_error(self):
        from datetime import timedelta

        right = {
            "BROKER": "rediss://user:secret@redis.example:6380/1",
            "FSYNC": False,
            "TIMEOUT": timedelta(minutes=5),
            "RETRIES": 0,
            "RESULT_TTL": 0,
            "EXPIRES": 1.5,
            "LIMIT": ["database", 3],
            "ENQUEUE_ON_COMMIT": False,
            "DATABASE": "none is needed",
        }
        self.assertEqual(self.errors_of(OPTIONS=right, QUEUES=("mail",)), [])
        self.assertEqual(self.errors_of(OPTIONS=dict.fromkeys(["BROKER", "TIMEOUT", "LIMIT"]), QUEUES=[]), [])

    def test_the_page_lists_the_options(self):
        from poolhouse.django.options import OPTIONS

        page = (ROOT / "docs/django.md").read_text()
        listed = [name for line in re.findall(r"^\| (`[A-Z_`, ]+`) \|", page, re.MULTILINE) for name in re.findall(r"\w+", line)]
        self.assertEqual(sorted(set(listed) - {"OPTIONS"}), sorted(OPTIONS))

    def test_a_check_opens_no_broker_and_tells_no_password(self):
        url = f"sqlite:{self.directory / 'pool.db'}"
        self.assertEqual(self.errors_of(OPTIONS={"BROKER": url}), [])
        self.assertEqual(list(self.directory.iterdir()), [], "it may be another user's")
        for broker in (
            "redi://user:secret@host/0",
            "redis://user:secret@host:port/0?password=secret",
            "user:secret@host",
            ("redis://:secret@host",),
        ):
            with self.subTest(broker):
                self.assertNotIn("secret", str(self.errors_of(OPTIONS={"BROKER": broker})))

    def test_manage_py_check_and_manage_py_pool_tell_all_that_is_wrong(self):
        wrong = {"BACKEND": "poolhouse.django.PoolBackend", "OPTIONS": {"RETRIES": -1, "LIMIT": 3, "BROKER": "localhost"}}
        code, said = self.manage({"default": wrong}, "check")
        self.assertEqual((code, said.count("HINT: Set ")), (1, 3), said)
        self.assertIn("(poolhouse.E002) TASKS['default']: OPTIONS['RETRIES'] is -1.", said)
        code, said = self.manage({"default": wrong}, "pool")
        self.assertEqual((code, len(said.splitlines())), (1, 3), said)
        self.assertIn("error: TASKS['default']: OPTIONS['RETRIES'] is -1. Set it to a whole number, 0 or more.", said)

    def test_manage_py_pool_says_which_backends_there_are(self):
        pool, immediate = "poolhouse.django.PoolBackend", f"{self.package()}.backends.immediate.ImmediateBackend"
        for tasks, flags, said in (
            ({"slow": pool}, [], f"there is no TASKS['default']; choose with --backend: slow ({pool})"),
            (
                {"default": immediate, "slow": pool},
                [],
                f"TASKS['default'] is not {pool}; choose with --backend: default ({immediate}), slow ({pool})",
            ),
            ({"default": pool}, ["--backend", "slow"], f"there is no TASKS['slow']; choose with --backend: default ({pool})"),
            ({"default": "shop.Backend"}, [], "TASKS['default']: Could not find backend 'shop.Backend': No module named 'shop'"),
            ({"default": None}, [], f"TASKS['default'] is not {pool}; choose with --backend: default (no BACKEND)"),
        ):
            with self.subTest(tasks=tasks, flags=flags):
                entries = {name: {"BACKEND": backend} if backend else {} for name, backend in tasks.items()}
                self.assertEqual(self.manage(entries, "pool", *flags), (1, f"error: {said}"))

    def test_all_flags_of_the_program_may_follow(self):
        tasks = {"default": {"BACKEND": "poolhouse.django.PoolBackend"}}
        for flags in (["--python", "/usr/bin/python3"], ["--python=/usr/bin/python3"], ["--directory", "/"], ["--runtime=python"]):
            with self.subTest(flags):
                self.assertEqual(self.manage(tasks, "pool", "--print-config", *flags), (0, ""))
        code, said = self.manage(tasks, "pool", "--backend")
        self.assertEqual(code, 2)
        self.assertIn("argument --backend: expected one argument", said)

    def test_it_says_where_it_looked_for_the_program(self):
        tasks = {"default": {"BACKEND": "poolhouse.django.PoolBackend"}}
        code, said = self.manage(tasks, "pool", path=os.defpath)
        self.assertEqual((code, len(said.splitlines())), (1, 1), said)
        self.assertIn("error: the program `pool` is neither beside this Python nor on PATH", said)

    def test_a_silenced_check_stops_nothing(self):
        tasks = {"default": {"BACKEND": "poolhouse.django.PoolBackend", "OPTIONS": {"DATABASE": "other"}}}
        silenced = f"{tasks}\nSILENCED_SYSTEM_CHECKS = ['poolhouse.E001']"
        self.assertEqual(self.manage(silenced, "pool", "--print-config"), (0, ""))


class OnSqlite(Rules, unittest.TestCase):
    make_kit = SqliteKit


class OnRedis(Rules, unittest.TestCase):
    make_kit = RedisKit


if __name__ == "__main__":
    unittest.main()
