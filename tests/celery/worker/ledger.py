"""Tasks under faults. A ledger, on a server that nobody harms, knows which began and which ended."""

import json
import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from celery import Celery

from harness.rabbit import RabbitServer
from support.server import RedisServer
from support.wait import until
from worker.brokers import RabbitBroker, RedisBroker
from worker.sides import Side

#: What a dead supervisor held comes back soon.
OPTIONS = {'pool': ['--lease', '3s', '--heartbeat', '1s', '--prefetch', '4'], 'stock': ['--prefetch-multiplier', '4']}
WORKERS = 2
#: What a process killed at any moment may have had in its hands: the task of each worker.
IN_HAND_MAX = WORKERS
KINDS = ('early', 'late')


@dataclass
class Figures:
    """What became of the tasks of one kind."""

    lost: list = field(default_factory=list)  # no end, no result
    failed: list = field(default_factory=list)  # a stored failure: its worker died
    begun_again: list = field(default_factory=list)
    ended_twice: list = field(default_factory=list)

    def __str__(self):
        return ', '.join(f'{name} {len(value)}' for name, value in vars(self).items())


class Harmed:
    """A side with servers of its own."""

    def __init__(self, kind, transport, ledger, database=2):
        self.transport, self.ledger = transport, ledger
        self.redis = RedisServer('--appendonly', 'yes', '--appendfsync', 'always')
        self.rabbit = RabbitServer() if transport == 'rabbitmq' else None
        broker = RabbitBroker(self.rabbit) if self.rabbit else RedisBroker(self.redis, 0)
        # Without confirmations a producer's messages may end with the server.
        conf = {'broker_transport_options': {'confirm_publish': True}} if self.rabbit else {}
        self.side = Side(kind, broker, self.redis, 0, conf)
        self.side.ledger_url = ledger.url
        self.side.ledger = ledger.client()
        # One that knows no result backend waits for no results, and so needs no server that lives.
        self.producer = Celery('ledger', broker=broker.url, set_as_current=False)
        self.producer.conf.update(conf)
        self.kills = 0

    def start(self):
        line = ['-Q', 'celery', '-l', 'WARNING', *OPTIONS[self.side.kind]]
        self.process = self.side.start(*line, workers=WORKERS, ready=False)

    # ---- faults ----

    def worker(self):
        """kill -9 of a process that runs tasks."""
        self._kill(lambda name, _: 'pool: worker' in name if self.side.kind == 'pool' else True)

    def template(self):
        """kill -9 of the process that forks workers."""
        self._kill(lambda name, _: 'pool: template' in name)

    def supervisor(self):
        """kill -9 of the main process, and a new one, as a service manager starts it."""
        below = _below(self.process.pid)
        self.process.kill()
        self.process.wait()
        self.kills += 1
        for pid, _ in below:  # Celery's children end when they notice
            _kill(pid)
        self.side.processes.remove(self.process)
        self.start()

    def server(self):
        """kill -9 of the server with the queues, which starts again with what it had written."""
        server = self.rabbit or self.redis
        server.kill()
        self.kills += 1
        server.launch()

    def connections(self):
        """The server closes all connections."""
        if self.rabbit:
            self.rabbit.close_connections(self.side.broker.vhost)
        else:
            with self.redis.client() as client:
                client.client_kill_filter(_type='normal', skipme=True)

    def _kill(self, is_meant):
        found = [pid for pid, name in _below(self.process.pid) if is_meant(name, pid)]
        if found:
            self.kills += 1
            _kill(random.choice(found))

    def stop(self):
        self.side.close()
        self.producer.close()
        self.redis.stop()
        if self.rabbit:
            self.rabbit.stop()

    # ---- what became of the tasks ----

    def ended(self):
        return sum(1 for name in self.ledger_names('ended'))

    def ledger_names(self, what):
        return {name: int(value) for name, value in self._runs() if name.startswith(what + ' ')}

    def _runs(self):
        return [(name.decode(), value) for name, value in self.side.ledger.hgetall('runs').items()]


def run(kind, transport, tasks, faults, seconds=0.02, seed=1):
    """Runs so many tasks, half of them acknowledged late, while these faults happen in turns; returns figures by kind."""
    random.seed(seed)
    ledger = RedisServer()
    harmed = Harmed(kind, transport, ledger)
    try:
        results = {kind: {} for kind in KINDS}
        for number in range(tasks):
            how = KINDS[number % 2]
            name = f'{how} {number}'
            results[how][name] = harmed.producer.send_task(f'shop.{how}', (name, seconds)).id
        harmed.start()
        for number, fault in enumerate(faults):
            # Each fault meets a pool that works again after the one before. What a kill has ended never ends.
            reached = max(tasks * (number + 1) / (len(faults) + 2), harmed.ended() + tasks / 40)
            reached = min(reached, tasks - harmed.kills * IN_HAND_MAX)
            until(lambda: harmed.ended() >= reached, f'{reached:.0f} tasks end before {fault}', 120)
            time.sleep(random.random() * 2 * seconds)
            getattr(harmed, fault)()
        _wait_for_the_end(harmed, tasks)
        until(harmed.side.is_quiet, 'no message is left', 90) if kind == 'pool' else None
        return {how: _figures(harmed, results[how]) for how in KINDS}, harmed.kills
    finally:
        harmed.stop()
        ledger.stop()


def _wait_for_the_end(harmed, tasks, still_max=20):
    """Until all have ended, or nothing happens any more."""
    still_since, last = time.monotonic(), None
    while time.monotonic() - still_since < still_max:
        now = (harmed.ended(), harmed.side.broker.is_quiet())
        if now[0] >= tasks or now[1] and last and last[1]:
            return
        if now != last:
            still_since, last = time.monotonic(), now
        time.sleep(0.25)


def _figures(harmed, results):
    figures = Figures()
    begun, ended = harmed.ledger_names('begun'), harmed.ledger_names('ended')
    for name, task_id in results.items():
        ends = ended.get(f'ended {name}', 0)
        if not ends:
            (figures.failed if _is_failed(harmed, task_id) else figures.lost).append(name)
        if ends > 1:
            figures.ended_twice.append(name)
        if begun.get(f'begun {name}', 0) > 1:
            figures.begun_again.append(name)
    return figures


def _is_failed(harmed, task_id):
    raw = harmed.side.redis.get(f'celery-task-meta-{task_id}')
    return raw is not None and json.loads(raw)['status'] == 'FAILURE'


def _below(pid):
    """All processes below this one: pid and name."""
    found = [pid]
    for parent in found:
        for task in Path(f'/proc/{parent}/task').glob('*/children'):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:  # it ended meanwhile
                pass
    return [(each, _name(each)) for each in found[1:]]


def _name(pid):
    try:
        return Path(f'/proc/{pid}/cmdline').read_text().replace('\0', ' ')
    except OSError:
        return ''


def _kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
