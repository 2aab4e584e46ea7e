"""What a pool adds: reloads, `check`, printed files, a process for each task, bursts."""

import json
import signal
import subprocess

import pytest

from support.wait import until
from worker.sides import POOL

#: What a supervisor does over any transport.
pytestmark = pytest.mark.over('redis')


def test_new_task_options_hold_after_a_reload(alone, tmp_path):
    """A task that was acknowledged early is acknowledged late once its application says so."""
    side = alone('pool')
    app = tmp_path / 'reloaded.py'
    text = (
        'import shop\n'
        'from shop import app\n'
        'QUEUES\n'
        '@app.task(name="reloaded.task", acks_late=LATE)\n'
        'def task(name):\n'
        '    shop.count(name)\n'
        '    import time; time.sleep(30 if name.startswith("long") else 0)\n'
    )
    app.write_text(text.replace('LATE', 'False').replace('QUEUES', ''))
    process = side.start('-A', 'reloaded', '--workdir', str(tmp_path))
    early = side.send('reloaded.task', 'long early')
    until(lambda: side.runs('long early'), 'it runs')
    until(lambda: side.broker.unacked() == 0, 'it is acknowledged when it begins')
    app.write_text(text.replace('LATE', 'True').replace('QUEUES', 'app.conf.task_default_queue = "other"'))
    process.send_signal(signal.SIGHUP)
    until(lambda: 'generation=2' in side.output(), 'the application is loaded anew')
    late = side.send('reloaded.task', 'long late')
    until(lambda: side.runs('long late'), 'it runs')
    assert side.broker.unacked() == 1, 'it is not acknowledged before it ends'
    assert not early.ready() and not late.ready()


def check(side, directory, *options):
    line = ['--runtime', 'celery', '--app', 'shop', '--python', side.python(), '--socket', str(directory / 's'), *options]
    return subprocess.run([POOL, 'check', *line], env=side.environment(), capture_output=True, text=True, timeout=60)


def test_check_names_the_broker_of_the_application(alone, tmp_path):
    side = alone('pool')
    checked = check(side, tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert f'# broker: {side.url} answers (protocol celery)' in checked.stdout
    assert '# app: python' in checked.stdout
    assert '# queues of the application: celery' in checked.stdout, checked.stdout
    assert '# results' not in checked.stdout, 'they are where they are expected'
    away = check(side, tmp_path, '--result-backend', 'redis://127.0.0.1:1/0')
    assert away.returncode == 3, away
    assert "results can't be read: cannot reach redis://127.0.0.1:1/0" in away.stderr
    elsewhere = check(side, tmp_path, '--result-backend', 'rpc://')
    assert elsewhere.returncode == 0, elsewhere
    assert "# results: the application's result backend is not Redis" in elsewhere.stdout


def test_the_log_names_the_queues(alone, tmp_path):
    """Those of the application, too; and says so if there are none, or one that can't be served."""
    (tmp_path / 'queued.py').write_text(
        'from kombu import Queue\n'
        'from shop import app\n'
        'app.conf.task_queues = [Queue(name) for name in ("celery", "mail", "q" * 300)]\n'
    )
    line = ['-A', 'queued', '--workdir', str(tmp_path)]
    side, nothing = alone('pool'), alone('pool')
    side.start(*line)
    assert 'queues=celery,mail ' in side.output()
    assert "a queue of the application is not consumed: its name can't be used here queue=qqq" in side.output()
    nothing.start(*line, '-X', f'celery,mail,{"q" * 300}', ready=False)
    until(lambda: 'there are no queues' in nothing.output(), 'it says that it serves no queue')


def test_a_printed_file_runs_what_its_line_ran(alone, tmp_path):
    side = alone('pool')
    line = ['celery', '-A', 'shop', 'worker', '-Q', 'mail', '-c', '1', '--python', side.python(), '--print-config']
    printed = subprocess.run([POOL, *line], env=side.environment(), capture_output=True, text=True, timeout=60)
    file = tmp_path / 'printed.toml'
    file.write_text(printed.stdout)
    side.spawn([POOL, 'run', '--config', str(file), '--socket', str(tmp_path / 's')])
    result = side.send('shop.request', queue='mail')
    assert result.get(timeout=60)['routing_key'] == 'mail', json.dumps(printed.stdout)


def test_the_supervisor_is_found_by_the_name_of_its_application(alone, tmp_path):
    """`--broker app:NAME` leads to the socket that `pool celery -A NAME worker` has by default."""
    side = alone('pool')
    env = {**side.environment(), 'XDG_RUNTIME_DIR': str(tmp_path)}
    side.spawn([POOL, 'celery', '-A', 'shop', 'worker', '-c', '1', '--python', side.python()], env=env)
    assert side.send('shop.add', 1, 2).get(timeout=60) == 3
    shown = subprocess.run([POOL, 'status', '--broker', 'app:shop'], env=env, capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0, shown.stderr
    assert side.url in shown.stdout and 'default' in shown.stdout, shown.stdout


def test_a_process_for_each_task(alone):
    """With `--isolation fresh` no two tasks share a process, and all else is as before."""
    side = alone('pool')
    side.start('--isolation', 'fresh')
    pids = [side.send('shop.pid') for _ in range(5)]
    assert len({pid.get(timeout=30) for pid in pids}) == 5
    lost, failed, caught = side.send('shop.killed'), side.send('shop.boom'), side.send('shop.catches_soft_limit')
    again = side.send('shop.retries', 'again', 2)
    assert (again.get(timeout=30), caught.get(timeout=30)) == (1, 'caught')
    until(lambda: lost.ready() and failed.ready(), 'both fail')
    assert ('WorkerLostError' in repr(lost.result), repr(failed.result)) == (True, "ValueError('nope')")
    until(side.is_quiet, 'no message is left')


def test_a_burst_ends_when_nothing_is_left(alone):
    side = alone('pool')
    results = [side.send('shop.add', n, n) for n in range(20)]
    process = side.start('--burst', ready=False)
    assert process.wait(60) == 0, side.output()
    assert all(result.ready() for result in results)


def test_a_worker_is_replaced_after_so_many_tasks(alone):
    side = alone('pool')
    side.start('--max-tasks-per-child', '2', workers=1)
    pids = [side.send('shop.pid').get(timeout=30) for _ in range(6)]
    assert len(set(pids)) >= 3, pids
