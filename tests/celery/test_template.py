"""What the template tells: the facts, what can't run, what does not load."""

import json
import sys

import pytest

from harness import messages
from harness.pool import APP


def test_the_facts_say_where_the_broker_is_and_what_is_consumed(pool, side):
    facts = pool.facts
    assert facts['celery'].startswith('5.')
    assert facts['node'].startswith('celery@')
    assert facts['broker']['transport'] == 'redis'
    assert facts['broker']['urls'] == [side.url]
    assert facts['broker']['options'] == {'visibility_timeout': 60}
    queues = [(queue['name'], queue['routing_key']) for queue in facts['queues']]
    assert queues == [('celery', 'celery'), ('mail', 'mail.#')]
    assert facts['settings']['accept_content'] == ['json', 'yaml']
    assert facts['about']['commands'] == ['hello_there']


def test_the_facts_say_where_results_go(pool, side):
    results = pool.facts['results']
    assert results['class'] == 'celery.backends.redis.RedisBackend'
    assert (results['url'], results['prefix'], results['expires']) == (side.url, 'celery-task-meta-', 3600)
    assert results['capture'] is True


def test_the_facts_say_how_each_task_is_to_be_run(pool):
    tasks = pool.facts['tasks']
    limited = tasks['proj.limited']
    assert (limited['acks_late'], limited['time_limit'], limited['rate_limit']) == (True, 30, '10/m')
    assert tasks['proj.patient']['soft_time_limit'] == 0.2
    assert tasks['proj.quiet']['ignore_result'] is True
    assert tasks['proj.boom_late']['acks_on_failure'] is False
    assert tasks['proj.noted_late']['reject_on_worker_lost'] is True
    assert (tasks['proj.add']['capture'], tasks['proj.noted']['capture']) == (True, False)
    assert 'celery.chord_unlock' in tasks


def test_options_are_those_of_celery_worker(start):
    pool = start(queues='mail', hostname='mine@%h', time_limit=5, soft_time_limit=3, task_events=True, concurrency=3)
    facts = pool.facts
    assert [queue['name'] for queue in facts['queues']] == ['mail']
    assert facts['node'].startswith('mine@')
    assert facts['settings']['send_task_events'] is True and facts['settings']['concurrency'] == 3
    assert facts['tasks']['proj.add']['time_limit'] == 5 and facts['tasks']['proj.limited']['time_limit'] == 30
    assert facts['tasks']['proj.add']['soft_time_limit'] == 3


def test_a_queue_of_the_options_that_nobody_defined_is_made(start):
    queues = start(queues='celery,new', exclude_queues='mail').facts['queues']
    assert [queues[-1][name] for name in ('name', 'exchange', 'exchange_type')] == ['new', 'new', 'direct']


@pytest.mark.parametrize(
    'conf', [pytest.param({'result_compression': 'gzip'}, marks=pytest.mark.celery57), {'result_serializer': 'yaml'}]
)
def test_results_are_not_captured_where_they_are_stored_otherwise(start, conf):
    pool = start(environment={'PROJ_CONF': json.dumps(conf)})
    assert pool.facts['results']['capture'] is False
    answer = pool.send('proj.add', 1, 2)
    assert (answer.state, answer.store) == ('SUCCESS', None)


@pytest.mark.parametrize('backend', ['disabled://', 'cache+memory://'])
def test_other_backends_are_celerys_own_affair(start, backend):
    pool = start(environment={'PROJ_BACKEND': backend})
    assert pool.facts['results']['capture'] is False
    assert pool.send('proj.add', 1, 2).store is None
    assert pool.send('proj.boom').state == 'FAILURE'


def test_a_key_prefix_is_in_the_facts_and_on_the_key(start):
    conf = {'result_backend_transport_options': {'global_keyprefix': 'mine'}}
    pool = start(environment={'PROJ_CONF': json.dumps(conf)})
    assert pool.facts['results']['prefix'] == 'mine_celery-task-meta-'
    assert pool.send('proj.add', 1, 2, task_id='x').store['key'] == 'mine_celery-task-meta-x'


def test_the_template_leaves_nothing_open_and_warns_of_nothing(pool):
    assert pool.answer['warnings'] == []


def test_the_worker_object_is_a_true_one_and_made_once(start, side):
    pool = start()
    pool.worker
    assert side.notes('worker_init') == [f'worker_init Worker {pool.template.pid}']


def test_what_can_not_run_here_is_named(start, tmp_path):
    (tmp_path / 'steps.py').write_text(
        'from celery import bootsteps\n'
        'from proj import app\n'
        'class Step(bootsteps.StartStopStep):\n    pass\n'
        "app.steps['worker'].add(Step)\n"
        "app.conf.worker_pool = 'gevent'\n"
        "@app.task(Strategy='steps:strategy')\ndef own(): pass\n"
    )
    pool = start(app='steps:app', environment={'PYTHONPATH': f'{APP}:{tmp_path}'})
    told = ' '.join(pool.answer['unfit'])
    assert 'bootsteps of the worker (steps.Step)' in told
    assert "`worker_pool` is 'gevent'" in told
    assert 'the strategy of the task `steps.own`' in told


@pytest.mark.parametrize(
    'name, words',
    [
        ('missing', "No module named 'missing'"),
        ('proj:nothing', "module 'proj' has no attribute 'nothing'"),
        ('broken', 'ZeroDivisionError'),
    ],
)
def test_an_app_that_does_not_load_is_named_with_the_reason(start, tmp_path, name, words):
    (tmp_path / 'broken.py').write_text('1 / 0\n')
    answer = start(app=name, environment={'PYTHONPATH': f'{APP}:{tmp_path}'}).answer
    assert answer['type'] == 'failed'
    assert f'cannot load the Celery application `{name}`' in answer['error'] and words in answer['error']


def test_a_result_backend_that_can_not_be_used_is_named_as_such(start):
    answer = start(result_backend='nonsense://x').answer
    assert answer['type'] == 'failed'
    assert "cannot use the application's result backend" in answer['error'], answer['error']


def test_facts_of_thousands_of_tasks_arrive_whole(start, tmp_path):
    (tmp_path / 'many.py').write_text(
        "from proj import app\ndef nothing(): pass\n"
        "for n in range(3000):\n    app.task(name='many.\\\"' + str(n))(nothing)\n"
    )
    pool = start(app='many:app', environment={'PYTHONPATH': f'{APP}:{tmp_path}'})
    assert pool.answer['type'] == 'ready', pool.answer
    assert len([name for name in pool.facts['tasks'] if name.startswith('many.')]) == 3000


def test_a_task_that_is_registered_by_another_task_runs(pool):
    assert sys.executable
    answer = pool.send('proj.register')
    assert answer.state == 'SUCCESS', answer.error
    assert pool.send('proj.registered').outcome['result'] == "'late'"


def test_info_logs_are_those_of_celery(start):
    pool = start(loglevel='INFO')
    pool.app.send_task('proj.add', (1, 2), task_id='the-id')
    pool.run(messages.taken(pool.redis))
    text = pool.worker.stderr.wait_for('succeeded in')
    assert 'Task proj.add[the-id] received' in text
    assert 'INFO/ForkPoolWorker-1] Task proj.add[the-id] succeeded in' in text
