"""Preloaded objects that reading does not copy: `memory/immortal.py`, with each interpreter from 3.12 on that is there."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import unittest
from glob import glob
from typing import Any, Callable

from supervisor import CARRIED, EXECUTOR, PYTHON, Template
from test_memory import rollup

MINORS = range(12, 20)
APP = """
import bisect, collections, functools, gc, io, os, sys, time, weakref

class Watched:
    pass
class Finalized:
    def __del__(self): ended.append('finalized')
ended = []
rows = [{'id': 1000 + i, 'name': f'name {i}', 'pair': (f'a {i}', i * 0.5)} for i in range(60_000)]
lookup = {row['name']: row for row in rows}
log, watched, watched_too, finalized = [], Watched(), Watched(), Finalized()
reference = weakref.ref(watched, lambda _: ended.append('callback'))
by_name = weakref.WeakValueDictionary({'too': watched_too})
weakref.finalize(watched_too, ended.append, 'finalize')
cycle = Watched()
cycle.itself, cycle_reference = cycle, weakref.ref(cycle, lambda _: ended.append('collected'))
buffer = bytearray(8)
view = memoryview(buffer)
text = 'preloaded'
queue = collections.deque(maxlen=3)
def numbers():
    yield from range(1000, 1003)
generator = numbers()
next(generator)
class Strict(type):
    __hash__ = None
    def __eq__(self, other): raise RuntimeError
class Odd(metaclass=Strict): pass
odd, frame = Odd(), sys._getframe()
@functools.lru_cache
def squared(number): return number * number

def is_immortal(thing): return sys.getrefcount(thing) >= 1 << 31
def looks():
    here = object()
    preloaded = [rows, rows[7], rows[7]['name'], rows[7]['pair'], rows[7]['pair'][1], looks, looks.__code__, Watched, sys, odd, Odd]
    return [*map(is_immortal, preloaded)], [*map(is_immortal, (here, generator, view, watched, finalized, frame))]
def read_all():
    return sum(len(row['name']) + len(row['pair'][0]) + (row['id'] > 0) for row in rows) and len(lookup)
def end_all():
    global watched, watched_too, finalized, view
    watched = watched_too = finalized = None
    view = None
    buffer.extend(b'more')
    return sorted(ended), reference() is None, len(by_name), len(buffer)
def end_cycle():
    global cycle
    cycle = None
    gc.unfreeze()
    gc.collect()
    return ended, cycle_reference() is None
def change():
    rows[0]['name'] += '!'
    rows[1] = {'id': 0, 'name': 'new', 'pair': ('x', 1)}
    del rows[2:10]
    rows.sort(key=lambda row: row['id'])
    lookup.clear()
    log.append(text + '?')
    queue.extend(range(10))
    return rows[1]['name'], rows[0]['name'], len(rows), len(lookup), log, list(queue), list(generator), squared(9), text
def replace(job):
    for i in range(job * 20, job * 20 + 20):
        rows[i % len(rows)] = {'id': i, 'name': f'new {i}', 'pair': (f'b {i}', i * 0.25)}
        lookup[f'name {i % len(rows)}'] = rows[i % len(rows)]
def collect():
    gc.unfreeze()
    gc.collect()
    gc.collect()
    return len(rows), read_all()
def fork_and_exit():
    pid = os.fork()
    if pid == 0:
        os._exit(len(rows) == 60_000)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
""" + EXECUTOR
#: Makes everything immortal and ends as any program does, by way of `Py_Finalize`.
PROGRAM = """
import atexit, sys
sys.path.insert(0, sys.argv[1])
import asyncio, collections.abc, dataclasses, enum, logging, threading, typing
from pool_template.memory import immortal
atexit.register(print, 'exit')
print(immortal.make(True).immortal_objects > 1000)
"""
#: How much more memory it takes for a moment, as a share of what there is.
PEAK = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from pool_template.memory import immortal
rows = [{'id': 1000 + i, 'name': f'name {i}'} for i in range(100_000)]
long, longer, wide = [float(i) for i in range(500_000)], [None] * 10_000_000, [[i] * 500 for i in range(10_000)]
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
immortal.make(True)
print(peak() / before - 1)
"""
#: What an interpreter looks like that is to be left alone.
STRANGE = {
    "a free-threaded build": "import sysconfig; sysconfig.get_config_var = lambda name: 1",
    "a debug build": "sys.gettotalrefcount = lambda: 0",
    "in a way that is not known": "sys.byteorder = 'big'",
    "since 3.12": "sys.version_info = (3, 11, 9)",
    "no ctypes module": "sys.modules['ctypes'] = None",
}
LIBRARIES = """
import sys, numpy, pandas, sqlalchemy, sqlalchemy.orm as orm, django.conf, lxml.etree as etree, pydantic
from concurrent.futures import ThreadPoolExecutor
class Base(orm.DeclarativeBase): pass
class Row(Base):
    __tablename__ = 'rows'
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]
orm.configure_mappers()
class Item(pydantic.BaseModel):
    name: str
    price: float = 1.5
django.conf.settings.configure(DATABASES={'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}})
import django; django.setup()
from django.db import connection
from django.utils.html import escape
frame = pandas.DataFrame({'a': range(1000), 'b': [str(i) for i in range(1000)]})
array, tree = numpy.arange(1000), etree.fromstring('<a><b>1</b><b>2</b></a>')
items = [Item(name=str(i)) for i in range(100)]
words = numpy.array([f'word {i}' for i in range(10)], dtype=object)
def in_array(): return sys.getrefcount(words[3]) >= 1 << 31
def work(i):
    engine = sqlalchemy.create_engine('sqlite://')
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add(Row(id=i, name='x'))
        session.commit()
        row = session.scalars(sqlalchemy.select(Row)).one().name
    frame.loc[i % 1000, 'a'] = -1
    frame['c'] = frame['a'] * 2
    array.resize(1000 + i % 3, refcheck=sys.version_info < (3, 14))  # since then NumPy counts the caller
    tree.append(etree.Element('b'))
    for old in tree[:-2]: tree.remove(old)
    items[i % 100] = Item(name=f'n{i}')
    with connection.cursor() as cursor: cursor.execute('SELECT 1')
    with ThreadPoolExecutor(2) as pool: sums = list(pool.map(sum, [[i], [1]]))
    return row, int(frame.groupby('b')['a'].sum().size), len(tree), items[i % 100].model_dump_json(), escape('<'), sums[0]
"""


@functools.lru_cache
def interpreters() -> list[str]:
    """Those of 3.12 and newer: the one under test, else one of each version on PATH or of pyenv."""
    if version(PYTHON) >= 12:
        return [PYTHON]
    pyenv = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    found = {}
    for minor in MINORS:
        on_path = shutil.which(f"python3.{minor}")
        for python in filter(None, (on_path, *glob(f"{pyenv}/versions/3.{minor}.*/bin/python3"))):
            if version(python) == minor:  # a name on PATH may be pyenv's, and lead nowhere
                found.setdefault(minor, python)
    return list(found.values())


@functools.lru_cache(maxsize=None)
def version(python: str) -> int:
    """Its minor version; 0: it does not start."""
    command = [python, "-c", "import sys; print(sys.version_info[1])"]
    try:
        return int(subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout)
    except (OSError, subprocess.CalledProcessError):
        return 0


def with_each(test: Callable[[Any, str], None]) -> Callable[[Any], None]:
    """Runs a test with each interpreter that has immortal objects."""

    @functools.wraps(test)
    def run(self: Any) -> None:
        if not interpreters():
            self.skipTest("no Python from 3.12 on is here")
        for python in interpreters():
            with self.subTest(python=python):
                test(self, python)

    return run


class Immortal(unittest.TestCase):
    def start(self, python: str, app: str = APP, **values: object) -> Template:
        template = Template({"app.py": app}, python=python)
        self.addCleanup(template.__exit__)
        return template.ready("app", **values)

    @with_each
    def test_the_report_says_how_many_and_how_much(self, python: str) -> None:
        with Template({"app.py": APP}, python=python) as template:
            report = template.load("app", immortal=True)
        self.assertIsNone(report["immortal_skipped"])
        self.assertGreater(report["immortal_objects"], 60_000 * 6)
        self.assertGreater(report["immortal_bytes"], 60_000 * 300)
        self.assertGreater(report["immortal_s"], 0)

    @with_each
    def test_what_was_preloaded_is_immortal_but_what_somebody_expects_to_end(self, python: str) -> None:
        preloaded, left_alone = self.start(python).worker().call("app.looks").value
        self.assertEqual(set(preloaded), {True}, preloaded)
        self.assertEqual(set(left_alone), {False}, left_alone)

    @with_each
    def test_reading_copies_nothing(self, python: str) -> None:
        grown = []
        for immortal in (True, False):
            worker = self.start(python, immortal=immortal).worker()
            worker.call("app.squared", [3])
            before = rollup(worker.pid, "Private_Dirty:")
            self.assertEqual(worker.call("app.read_all").value, 60_000)
            grown.append(rollup(worker.pid, "Private_Dirty:") - before)
        self.assertLess(grown[0], 1 << 20, grown)
        self.assertGreater(grown[1], 8 << 20, grown)

    @with_each
    def test_finalizers_and_weak_references_work_as_ever(self, python: str) -> None:
        expected = [["callback", "finalize", "finalized"], True, 0, 12]
        for immortal in (True, False):
            self.assertEqual(self.start(python, immortal=immortal).worker().call("app.end_all").value, expected)

    @with_each
    def test_a_collection_that_ends_a_preloaded_object_says_so(self, python: str) -> None:
        for immortal in (True, False):
            worker = self.start(python, immortal=immortal).worker()
            self.assertEqual(worker.call("app.end_cycle").value, [["collected"], True])

    @with_each
    def test_preloaded_objects_change_as_ever(self, python: str) -> None:
        found = [self.start(python, immortal=on).worker().call("app.change").value for on in (True, False)]
        self.assertEqual(found[0], found[1])
        self.assertEqual(found[0][:4], ["name 0!", "new", 59_992, 0])

    @with_each
    def test_memory_stays_flat_while_jobs_replace_what_was_preloaded(self, python: str) -> None:
        worker = self.start(python).worker()
        for job in range(6000):  # each row twice
            worker.call("app.replace", [job])
        grown = []
        for _ in range(3):
            before = rollup(worker.pid, "Private_Dirty:")
            for job in range(5000):  # 100,000 values
                worker.call("app.replace", [job])
            grown.append(rollup(worker.pid, "Private_Dirty:") - before)
        # What leaks does so each time. An arena, which is a mebibyte, may be new at any time, since others have gaps.
        self.assertLess(min(grown), 1 << 20, grown)

    @with_each
    def test_forks_processes_and_collections_by_jobs_work(self, python: str) -> None:
        for fresh in (False, True):
            worker = self.start(python, fresh=fresh).worker()
            self.assertEqual(worker.call("app.fork_and_exit").value, 1)
            self.assertEqual(worker.call("app.use_executor").value, 9)
            self.assertEqual(worker.call("app.collect").value, [60_000, 60_000])

    @with_each
    def test_an_interpreter_full_of_immortal_objects_ends_as_any_other(self, python: str) -> None:
        self.assertEqual(self.run_program(python, PROGRAM), "True\nexit\n")

    @with_each
    def test_it_takes_at_most_a_fifth_more_memory_for_a_moment(self, python: str) -> None:
        self.assertLess(float(self.run_program(python, PEAK)), 0.2)

    @with_each
    def test_an_interpreter_that_is_not_known_is_left_alone(self, python: str) -> None:
        for words, disguise in STRANGE.items():
            lines = ["import sys", "sys.path.insert(0, sys.argv[1])", "from pool_template.memory import areas", disguise]
            lines += ["from pool_template.memory import immortal", "print(immortal.make(True))"]
            said = self.run_program(python, "\n".join(lines))
            self.assertIn("immortal_objects=0", said)
            self.assertIn(words, said)

    @with_each
    def test_libraries_work_in_a_preload(self, python: str) -> None:
        imports = LIBRARIES.split("\n")[1]
        if subprocess.run([python, "-c", imports], stderr=subprocess.DEVNULL).returncode:
            self.skipTest("this Python has not all of these libraries")
        found = []
        for immortal in (True, False):
            worker = self.start(python, LIBRARIES, immortal=immortal).worker()
            self.assertEqual(worker.call("app.in_array").value, immortal)
            found.append([worker.call("app.work", [job]).value for job in range(200)])
        self.assertEqual(found[0], found[1])

    def test_it_says_why_there_are_none(self) -> None:
        with Template({"app.py": ""}) as template:
            self.assertEqual(template.load("app", immortal=False)["immortal_skipped"], "app.immortal is off")
        if version(PYTHON) < 12:
            with Template({"app.py": ""}) as template:
                report = template.load("app", immortal=True)
            self.assertIn("since 3.12", report["immortal_skipped"])
            self.assertEqual(report["immortal_objects"], 0)

    def run_program(self, python: str, program: str) -> str:
        """What it prints; it must end well."""
        command = [python, "-c", program, str(CARRIED)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    unittest.main()
