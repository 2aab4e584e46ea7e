"""The application of the tests. `PROJ_*` variables set it up."""

import json
import os
import time

from celery import Celery, Task, signals
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.worker.control import control_command
from kombu import Queue

REDIS = os.environ.get('PROJ_REDIS', 'redis://127.0.0.1:1/0')
app = Celery('proj', broker=REDIS, backend=os.environ.get('PROJ_BACKEND', REDIS))
app.conf.update(
    task_queues=[Queue('celery'), Queue('mail', routing_key='mail.#')],
    broker_transport_options={'visibility_timeout': 60},
    result_expires=3600,
    accept_content=['json', 'yaml'],
    **json.loads(os.environ.get('PROJ_CONF', '{}')),
)


def note(*words):
    """Tells the tests of something, in the order in which it happens."""
    with open(os.environ['PROJ_NOTES'], 'a') as file:
        print(*words, file=file)


@app.task
def add(x, y):
    return x + y


@app.task(ignore_result=True)
def quiet():
    return 'nobody looks'


@app.task(ignore_result=True, store_errors_even_if_ignored=True)
def quiet_failure():
    raise KeyError('kept')


@app.task
def boom():
    raise KeyError('nope')


@app.task(acks_late=True, acks_on_failure_or_timeout=False)
def boom_late():
    raise KeyError('nope')


@app.task(bind=True, default_retry_delay=60, max_retries=3)
def again(self):
    raise self.retry(exc=ValueError('not yet'))


@app.task
def ignored():
    raise Ignore('as told')


@app.task(acks_late=True)
def rejected(requeue):
    raise Reject('no', requeue=requeue)


@app.task
def no_json():
    return object()


@app.task(bind=True)
def describe(self):
    request = self.request
    info = request.delivery_info
    return [request.id, request.hostname, info['routing_key'], info['redelivered'], request.retries, request.headers]


@app.task(bind=True)
def progress(self):
    self.update_state(state='PROGRESS', meta={'done': 1})
    return json.loads(self.backend.get(self.backend.get_key_for_task(self.request.id)))['status']


@app.task(track_started=True)
def tracked():
    return json.loads(app.backend.get(app.backend.get_key_for_task(tracked.request.id)))['result']


@app.task(soft_time_limit=0.2)
def patient():
    try:
        time.sleep(30)
    except SoftTimeLimitExceeded:
        return 'interrupted'


@app.task(soft_time_limit=0.2)
def stubborn():
    time.sleep(30)


@app.task
def leave(code):
    raise SystemExit(code)


@app.task
def no_memory():
    raise MemoryError('too much')


@app.task
def fork_child():
    pid = os.fork()
    if pid == 0:
        return 'the child'
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@app.task
def big(length):
    return 'x' * length


class Noting(Task):
    """Says which of its hooks are called."""

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        note('on_failure', type(exc).__name__, str(exc))

    def on_success(self, retval, task_id, args, kwargs):
        stored = self.backend.get(self.backend.get_key_for_task(task_id))
        note('on_success', json.loads(stored)['status'])


@app.task(base=Noting)
def noted(fails=False):
    if fails:
        raise ValueError('noted')


@app.task(base=Noting, acks_late=True, reject_on_worker_lost=True)
def noted_late():
    pass


@app.task
def on_error(request, exc, traceback):
    note('errback', request.id, type(exc).__name__)


@app.task(time_limit=30, rate_limit='10/m', acks_late=True)
def limited():
    pass


@app.task
def seat():
    import multiprocessing

    return [multiprocessing.current_process().name, os.getpid()]


class OwnRequest:
    """Where the request class of a task is the user's."""


def _own_request():
    from celery.worker.request import Request

    class Own(Request):
        def on_success(self, failed__retval__runtime, **kwargs):
            note('request', 'on_success')
            return super().on_success(failed__retval__runtime, **kwargs)

        def on_failure(self, exc_info, send_failed_event=True, return_ok=False):
            note('request', 'on_failure', return_ok)
            return super().on_failure(exc_info, send_failed_event, return_ok)

    return Own


OwnRequest = _own_request()


@app.task(Request='proj:OwnRequest')
def own_request(fails):
    if fails:
        raise KeyError('own')
    return 1


@control_command()
def hello_there(state):
    return 'hello'


@signals.worker_process_init.connect
def process_begins(sender, **_):
    if 'PROJ_NOTES' in os.environ:
        note('worker_process_init', sender, os.getpid())


@signals.worker_process_shutdown.connect
def process_ends(sender, pid, exitcode, **_):
    if 'PROJ_NOTES' in os.environ:
        note('worker_process_shutdown', sender, pid, exitcode)


@signals.worker_init.connect
def worker_begins(sender, **_):
    if 'PROJ_NOTES' in os.environ:
        note('worker_init', type(sender).__mro__[1].__name__, os.getpid())


def task_fails(sender, task_id, exception, **_):
    note('task_failure', sender.name, type(exception).__name__)


def task_received(sender, request, **_):
    note('task_received', request.name, request.args, type(sender).__name__)


def task_succeeds(sender, **_):
    note('task_success', sender.name)


if 'PROJ_WATCH' in os.environ:
    signals.task_failure.connect(task_fails)
    signals.task_received.connect(task_received)
    signals.task_success.connect(task_succeeds)


@signals.task_rejected.connect
def message_rejected(**_):
    if 'PROJ_NOTES' in os.environ:
        note('task_rejected')


@signals.task_unknown.connect
def task_unknown(name, **_):
    if 'PROJ_NOTES' in os.environ:
        note('task_unknown', name)


@signals.task_revoked.connect
def task_revoked(sender, terminated, expired, **_):
    if 'PROJ_NOTES' in os.environ:
        note('task_revoked', sender.name, terminated, expired)


@app.task
def raises_lost():
    from billiard.exceptions import WorkerLostError

    raise WorkerLostError('one of mine')


@app.task
def die():
    os.kill(os.getpid(), 9)


@app.task(base=Noting)
def sleep_noted(seconds):
    time.sleep(seconds)


@app.task(base=Noting, acks_late=True, acks_on_failure_or_timeout=False)
def sleep_late(seconds):
    time.sleep(seconds)


@app.task(retry_on_worker_lost=True, default_retry_delay=7)
def lost_again():
    pass


@app.task
def register():
    def late():
        return 'late'

    app.task(name='proj.registered')(late)


@signals.worker_shutdown.connect
def worker_shuts(**_):
    if 'PROJ_NOTES' in os.environ:
        note('worker_shutdown')


@signals.worker_shutting_down.connect
def worker_is_shutting(how, **_):
    if 'PROJ_NOTES' in os.environ:
        note('worker_shutting_down', how)
