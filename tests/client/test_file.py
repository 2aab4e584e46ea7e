"""The embedded broker's file: the client leaves in it what the program leaves, and refuses what the program refuses."""

import gc
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import unittest
import warnings
from pathlib import Path

from kit import PATIENCE_S, POOL, ROOT, SqliteKit, until

from poolhouse import BrokerError, JobUnknown, Pool, place

#: What differs between two jobs that are the same.
_TABLES = {
    "jobs": "q.name, task, timeout_ms, retries, result_ttl_ms, unique_key, payload, grp, next IS NOT NULL",
    "waiting": "q.name, position < 0, abs(position) = handle, since > 0, epoch",
    "scheduled": "q.name, due - enqueued BETWEEN 3590000 AND 3600000, at_front, epoch",
}


def dump(file):
    """The rows of a file without what is made anew for each job."""
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
        rows = {
            "jobs": connection.execute(f"SELECT {_TABLES['jobs']} FROM jobs JOIN queues q USING (queue) ORDER BY handle"),
            "waiting": connection.execute(
                f"SELECT {_TABLES['waiting']} FROM waiting JOIN queues q USING (queue) ORDER BY q.name, position"
            ),
            "scheduled": connection.execute(
                f"SELECT {_TABLES['scheduled']} FROM scheduled s JOIN queues q USING (queue)"
                " JOIN jobs USING (handle) ORDER BY handle"
            ),
            "deferred": connection.execute("SELECT count(*) FROM deferred"),
            "groups": connection.execute("SELECT total, finished, failed, ended, expires, on_done, on_failure FROM groups"),
            "keys": connection.execute("SELECT key FROM unique_keys"),
            "queues": connection.execute("SELECT name, waiting, scheduled FROM queues ORDER BY queue"),
            "schema": connection.execute("SELECT sql FROM sqlite_schema ORDER BY name"),
            "version": connection.execute("SELECT * FROM pragma_user_version, pragma_application_id, pragma_journal_mode"),
        }
        return {name: found.fetchall() for name, found in rows.items()}


class File(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.path = self.directory / "state" / "pool.db"

    def open(self, path=None):
        pool = Pool(f"sqlite:{path or self.path}")
        self.addCleanup(pool.close)
        return pool

    def test_it_holds_what_the_program_writes(self):
        pool = self.open()
        pool.send("t.a", [1], queue="mail", timeout="30s", retries=3, result_ttl="1h")
        pool.send("t.b", {"x": "ä"}, key="k")
        pool.send("t.c", [], front=True)
        pool.send("t.d", {"a": 1}, delay="1h", queue="low")
        pool.signature("t.e", [1]).then(pool.signature("t.f", [2])).then(pool.signature("t.g")).enqueue()
        calls = [pool.signature("t.m", [n], queue="group") for n in range(3)]
        pool.group(calls, on_done=pool.signature("t.done", [0]), on_failure=pool.signature("t.failed"))

        other = self.directory / "other.db"

        def enqueue(*arguments, stdin=None):
            environment = {**os.environ, "POOL_CONFIG": os.devnull, "POOL_BROKER": f"sqlite:{other}"}
            subprocess.run(
                [POOL, "enqueue", *arguments], env=environment, input=stdin, check=True, capture_output=True, text=True
            )

        enqueue("t.a", "[1]", "--queue", "mail", "--timeout", "30s", "--retries", "3", "--result-ttl", "1h")
        enqueue("t.b", '{"x":"ä"}', "--key", "k")
        enqueue("t.c", "[]", "--front")
        enqueue("t.d", '{"a":1}', "--in", "1h", "--queue", "low")
        enqueue("t.e", "[1]", "--then", "t.f [2]", "--then", "t.g")
        lines = "".join(f'{{"task":"t.m","args":[{n}],"queue":"group"}}\n' for n in range(3))
        enqueue("--group", "-", "--on-done", "t.done [0]", "--on-failure", "t.failed", stdin=lines)
        ours, theirs = dump(self.path), dump(other)
        for name, rows in theirs.items():
            self.assertEqual(ours[name], rows, name)

    def test_its_files_belong_to_one_user(self):
        self.open().send("t", [1])
        for file in (self.path, Path(f"{self.path}-bell"), Path(f"{self.path}-wal")):
            self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600, file)
        self.assertEqual(stat.S_IMODE(self.path.parent.stat().st_mode), 0o700)

    def test_a_database_of_another_program_is_left_alone(self):
        file = self.directory / "other.db"
        with sqlite3.connect(file) as connection:
            connection.execute("CREATE TABLE mine (a)")
        with self.assertRaisesRegex(BrokerError, "another program"):
            self.open(file).send("t")
        text = self.directory / "text"
        text.write_text("no database at all " * 100)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", ResourceWarning)  # what Python 3.13 says of a connection that is not closed
            with self.assertRaisesRegex(BrokerError, "not a database"):
                self.open(text).send("t")
            gc.collect()
        self.assertEqual([str(each.message) for each in warned if "sqlite3" in str(each.message)], [])

    def test_a_newer_schema_is_refused(self):
        self.open().send("t")
        with sqlite3.connect(self.path) as connection:
            connection.execute("PRAGMA user_version = 99")
        with self.assertRaisesRegex(BrokerError, "version 99"):
            self.open().send("t")

    def test_an_older_schema_is_brought_up_to_date(self):
        self.path.parent.mkdir()
        with sqlite3.connect(self.path) as connection:
            connection.executescript((ROOT / "src/broker/sqlite/schema.sql").read_text())
            connection.execute("PRAGMA user_version = 1")
            connection.execute(f"PRAGMA application_id = {int.from_bytes(b'pool', 'big')}")
        self.open().send("t")
        self.assertEqual(dump(self.path)["version"][0][0], 9)

    def test_a_file_that_was_replaced_is_no_more_written_to(self):
        pool = self.open()
        pool.send("t")
        self.path.rename(self.directory / "moved")
        with self.assertRaisesRegex(BrokerError, "deleted or replaced"):
            pool.send("t")

    def test_a_planted_link_is_not_followed(self):
        self.path.parent.mkdir()
        target = self.directory / "target"
        os.symlink(target, f"{self.path}-bell")
        with self.assertRaises(BrokerError):
            self.open().send("t")
        self.assertFalse(target.exists())

    def test_what_cannot_be_made_is_said(self):
        (self.directory / "file").touch()
        with self.assertRaisesRegex(BrokerError, "sqlite:.*file/pool.db"):
            self.open(self.directory / "file" / "pool.db").send("t")

    def test_programs_that_begin_at_once_make_one_schema(self):
        text = f"""
import sys; sys.path.insert(0, {str(ROOT / "python")!r})
from poolhouse import Pool
pool = Pool("sqlite:{self.path}")
for number in range(20):
    pool.send("t", [number])
"""
        programs = [subprocess.Popen([sys.executable, "-c", text]) for _ in range(4)]
        self.assertEqual([program.wait(PATIENCE_S) for program in programs], [0] * 4)
        self.assertEqual(dump(self.path)["queues"], [("default", 80, 0)])

    def test_a_job_that_was_due_goes_into_its_queue_with_the_next_one(self):
        pool = self.open()
        pool.send("due", delay="1ms")
        until(lambda: pool.send("next") and not dump(self.path)["scheduled"], "the job is due")
        (count,) = dump(self.path)["queues"]
        self.assertEqual((count[1], count[2]), (len(dump(self.path)["waiting"]), 0))

    def test_a_reader_sees_an_ended_producers_jobs(self):
        text = f"import sys; sys.path.insert(0, {str(ROOT / 'python')!r})\n"
        text += f"from poolhouse import Pool\nprint(Pool('sqlite:{self.path}').send('t').id)"
        id = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout.strip()
        self.assertEqual(self.open().get_job(id).view().task, "t")
        with self.assertRaises(JobUnknown):
            self.open().get_job("other").view()


class Place(unittest.TestCase):
    """The client and the program agree on where the broker is."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name).resolve()

    def agree(self, directory, **environment):
        """Where both say that the broker is; empty: the program's default is no broker of the client."""
        environment = {"HOME": str(self.directory), "PATH": os.environ["PATH"], **environment}
        check = subprocess.run([POOL, "check"], cwd=directory, env=environment, capture_output=True, text=True)
        theirs = next(line.split('"')[1] for line in check.stdout.splitlines() if line.startswith("url = "))
        done = self.find(directory, environment)
        ours = done.stdout.strip()
        self.assertEqual(f"sqlite:{os.path.normpath(place.path_of(ours))}", theirs, done.stderr)
        return theirs

    def find(self, directory, environment):
        """Where the client finds the broker."""
        text = f"import sys; sys.path.insert(0, {str(ROOT / 'python')!r})\nfrom poolhouse import place\nprint(place.find().url)"
        return subprocess.run([sys.executable, "-c", text], cwd=directory, env=environment, capture_output=True, text=True)

    def test_without_any_setting(self):
        self.assertIn(".local/state/pool/pool.db", self.agree(self.directory))
        self.agree(self.directory, XDG_STATE_HOME="/x/state")
        self.agree(self.directory, STATE_DIRECTORY="/x/service:/y")

    def test_with_a_project(self):
        project = self.directory / "shöp"
        (project / "below").mkdir(parents=True)
        (project / "pool.toml").write_text("[pools.default]\nmax_workers = 3\n")
        found = {self.agree(project), self.agree(project / "below")}
        self.assertEqual(len(found), 1)
        self.assertIn("/pool/shöp-", found.pop())
        self.agree(self.directory, POOL_CONFIG=str(project / "pool.toml"))

    @unittest.skipIf(sys.version_info < (3, 11), "this Python reads no TOML")
    def test_with_a_url(self):
        (self.directory / "pool.toml").write_text("[broker]\nurl = 'sqlite:jobs/pool.db'\nfsync = true\nmax_payload = '2M'\n")
        below = self.directory / "below"
        below.mkdir()
        self.assertEqual(self.agree(below), f"sqlite:{self.directory}/jobs/pool.db")
        self.assertEqual(self.agree(below, POOL_BROKER="sqlite:///x/pool.db"), "sqlite:/x/pool.db")
        (self.directory / "pool.toml").write_text("[app]\nruntime = 'command'\n[tasks.a]\ncommand = ['true']\n")
        self.assertIn(".local/state/pool/", self.agree(below))
        self.assertIn("which has a default broker of its own", self.find(below, {"POOL_RUNTIME": "rq"}).stderr)


class Deaths(unittest.TestCase):
    """A producer that dies between its commit and its ring is still heard."""

    def test_the_death_of_a_producer_wakes_the_pool(self):
        kit = SqliteKit()
        self.addCleanup(kit.stop)
        kit.start()
        id = kit.python(
            "import os, shop\n"
            "from poolhouse.sqlite.bell import Bell\n"
            "Bell.ring = lambda self: None\n"
            "print(shop.add.enqueue(1).id, flush=True)\n"
            "os.kill(os.getpid(), 9)\n",
            check=False,
        )
        pool = Pool(kit.url)
        self.addCleanup(pool.close)
        self.assertEqual(pool.get_job(id).result(PATIENCE_S), 1)


if __name__ == "__main__":
    unittest.main()
