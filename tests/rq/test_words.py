"""Each option of `rq worker` and `rq worker-pool` stands in the table of docs/rq.md, and does what the table says."""

import os
import re
import subprocess

import click
import pytest
import rq
from rq.cli.cli import main

from support.worker import ROOT

POOL = os.environ.get('POOL_BIN', str(ROOT / 'target' / 'debug' / 'pool'))
#: A value that an option takes, where `1` would not do.
VALUES = {
    '--url': 'redis://localhost/1',
    '--name': 'web',
    '--logging_level': 'INFO',
    '--logging-level': 'INFO',
    '--log-format': '%(message)s',
    '--serializer': 'json',
    '--dequeue-strategy': 'default',
    '--config': 'settings',
    '--exception-handler': 'jobs.handler',
    '--job-class': 'rq.job.Job',
    '--queue-class': 'rq.queue.Queue',
    '--worker-class': 'rq.worker.Worker',
    '--connection-class': 'jobs.Connection',
}
COMMANDS = ['worker', 'worker-pool']


def options():
    """The options of both commands, as click knows them, each with its command."""
    found = [(command, option) for command in COMMANDS for option in main.commands[command].params]
    return [(command, option) for command, option in found if isinstance(option, click.Option)]


def table():
    """What docs/rq.md says of each word: `as in RQ`, `as here` or `refused`."""
    text = (ROOT / 'docs' / 'rq.md').read_text()
    rows = re.findall(r'^\| (`-.*?) \| (as in RQ|as here|refused) \|', text, re.MULTILINE)
    return {word: said for words, said in rows for word in re.findall(r'`([^`]+)`', words)}


@pytest.mark.skipif(rq.VERSION < '3', reason='the table is that of RQ 3')
def test_the_table_names_each_option_and_no_other():
    assert set(table()) == {word for _, option in options() for word in option.opts}


@pytest.mark.parametrize('command, option', options(), ids=lambda value: getattr(value, 'opts', [value])[0])
def test_an_option_does_what_the_table_says(command, option, tmp_path):
    (tmp_path / 'settings.py').write_text('NAME = "web"\n')
    for word in option.opts:
        long = next(name for name in option.opts if name.startswith('--'))
        value = [] if option.is_flag else [VALUES.get(long, '1')]
        line = [POOL, 'rq', command, word, *value, '--print-config']
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=30)
        if table()[word] == 'refused':
            assert (done.returncode, done.stdout) == (2, ''), word
            assert long in done.stderr and 'hint' in done.stderr, done.stderr
        else:
            assert done.returncode == 0, done.stderr
            assert 'runtime = "rq"' in done.stdout, word
