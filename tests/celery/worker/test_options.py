"""Each option of `celery worker` stands in the table of docs/celery.md, and does what the table says."""

import re
import subprocess

import click
import pytest
from celery.bin.celery import celery
from celery.bin.worker import worker

from support.wait import until
from worker.sides import POOL, ROOT

#: A value that an option takes, where `1` would not do.
VALUES = {
    '--app': 'proj',
    '--broker': 'redis://localhost/1',
    '--result-backend': 'redis://localhost/1',
    '--loader': 'proj.Loader',
    '--config': 'proj.settings',
    '--workdir': '.',
    '--loglevel': 'INFO',
    '--optimization': 'fair',
    '--pool': 'prefork',
    '--pool-start-method': 'fork',
    '--autoscale': '3,1',
    '--include': 'proj.tasks',
    '--queues': 'a,b',
    '--exclude-queues': 'c',
}


def options():
    """The options of `celery` and of `celery worker`, as click knows them."""
    found = [option for command in (celery, worker) for option in command.params if isinstance(option, click.Option)]
    return [option for option in found if '--version' not in option.opts]


def table():
    """What docs/celery.md says of each word: `as in Celery`, `as here` or `refused`."""
    text = (ROOT / 'docs' / 'celery.md').read_text()
    rows = re.findall(r'^\| (`-.*?) \| (as in Celery|as here|refused) \|', text, re.MULTILINE)
    return {word: said for words, said in rows for word in re.findall(r'`([^`]+)`', words)}


@pytest.mark.celery57
def test_the_table_names_each_option_and_no_other():
    known = {word for option in options() for word in option.opts}
    assert set(table()) == known


@pytest.mark.parametrize('option', options(), ids=lambda option: option.opts[-1])
def test_an_option_does_what_the_table_says(option, tmp_path):
    for word in option.opts:
        app = [] if '--app' in option.opts else ['-A', 'proj']
        long = next(name for name in option.opts if name.startswith('--'))
        value = [] if option.is_flag else [VALUES.get(long, '1')]
        line = [POOL, 'celery', *app, 'worker', word, *value, '--print-config']
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=30)
        if table()[word] == 'refused':
            assert (done.returncode, done.stdout) == (2, ''), word
            assert any(f'`{name}`' in done.stderr for name in option.opts) and 'hint' in done.stderr, done.stderr
        else:
            assert done.returncode == 0, done.stderr
            assert 'runtime = "celery"' in done.stdout, word


@pytest.mark.parametrize('kind', ['eventlet', 'gevent', 'threads', 'custom'])
def test_pools_of_another_kind_are_refused(kind):
    done = subprocess.run([POOL, 'celery', '-A', 'proj', 'worker', '-P', kind], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and 'one task at a time' in done.stderr


@pytest.mark.parametrize('kind', ['stock', 'pool'])
def test_what_waited_is_purged_at_a_start(alone, kind):
    side = alone(kind)
    before = [side.send('shop.add', n, n) for n in range(3)]
    side.start('--purge', ready=False)
    said = {'stock': 'Erased 3 messages', 'pool': 'what waited in the queue is deleted queue=celery deleted=3'}
    until(lambda: said[kind] in side.output(), 'it says so')
    assert side.send('shop.add', 1, 1).get(timeout=60) == 2
    assert [result.state for result in before] == ['PENDING'] * 3
