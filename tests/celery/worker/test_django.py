"""A Django project with Celery, end to end: its settings, its tasks, its database, its results, its beat."""

import json
import subprocess
import sys

import pytest

from support import child
from support.wait import until
from worker.sides import APP, POOL, together


class Project:
    """The project with a worker of this kind, and a database of its own."""

    def __init__(self, side, directory):
        self.side = side
        self.environment = {
            **side.environment(),
            'DJANGO_SETTINGS_MODULE': 'storefront.settings',
            'STOREFRONT_DATABASE': str(directory / f'{side.kind}.sqlite3'),
        }
        self.step('migrate')

    def step(self, name):
        """What the web process does."""
        line = [sys.executable, '-m', 'storefront.steps', name]
        done = subprocess.run(line, env=self.environment, cwd=APP, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, directory):
        line = ['-A', 'storefront', 'worker', '-c', '1', '-l', 'INFO']
        if self.side.kind == 'stock':
            command = [sys.executable, '-m', 'celery', *line]
        else:
            socket = str(directory / 'pool.sock')
            command = [POOL, 'celery', *line, '--python', sys.executable, '--socket', socket]
        self.side.spawn(command, self.environment)


@pytest.fixture
def projects(alone, tmp_path):
    sides = [alone('stock'), alone('pool')]
    projects = together(sides, lambda side: Project(side, tmp_path))
    for project in projects:
        project.start(tmp_path)
    return projects


@pytest.mark.over('redis')
def test_a_django_project(projects):
    orders = together(projects, lambda project: project.step('order'))
    assert orders[0] == orders[1]
    shipped = lambda project: until(lambda: project.step('orders') == [['kept', True]], 'it ships what is committed')
    together(projects, shipped)
    stock, pool = together(projects, lambda project: project.step('results'))
    assert stock == pool and [row['status'] for row in pool] == ['FAILURE', 'SUCCESS', 'SUCCESS', 'SUCCESS'], pool
    pool = projects[1]
    pool.step('schedule')
    beat = [sys.executable, '-m', 'celery', '-A', 'storefront', 'beat', '--pidfile', '', '--max-interval', '1']
    process = child.start(beat, env=pool.environment, cwd=APP, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: pool.step('orders').count(['tick', False]) >= 2, 'its periodic task runs', 60)
    finally:
        process.terminate()
        process.wait()


@pytest.mark.over('redis')
def test_it_is_checked_before(projects):
    line = [POOL, 'check', '--runtime', 'celery', '--app', 'storefront', '--python', sys.executable]
    done = subprocess.run(line, env=projects[1].environment, cwd=APP, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
