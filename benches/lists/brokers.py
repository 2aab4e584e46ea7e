"""The brokers that lists are measured over: each is filled in bulk with waiting jobs and dead letters, of which none is run."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib

from celery import Celery as CeleryApp
from harness.rabbit import RabbitServer
from kombu import Connection
from redis import Redis
from rq.job import Job
from support.server import RedisServer

POOL = os.path.abspath(os.environ.get("POOL_BIN", "target/release/pool"))
ERROR = {"kind": "OSError", "message": "disk full", "detail": "Traceback (most recent call last):\n  ...\nOSError: disk full"}
ARGUMENTS = '{{"to": "user{}@example.org", "order": {{"id": {}}}}}'


def job_id(number):
    """Ids that begin in many ways, each of its own."""
    return f"{number * 2654435761 % 2**32:08x}-{number:08d}"


class Sqlite:
    """A file as the program makes it, with the rows that it would have written."""

    lacks = ()
    narrow = ()

    def __init__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="pool-lists-")
        self.path = f"{self.directory.name}/jobs.db"
        self.environment = {}
        self.where = ["--broker", f"sqlite:{self.path}"]
        self.supervisor = [POOL, "run", "--queue", "elsewhere", *self.where]

    def fill(self, waiting, dead):
        subprocess.run([POOL, "enqueue", "noop", *self.where], check=True, stdout=subprocess.DEVNULL)
        with contextlib.closing(sqlite3.connect(self.path)) as file:
            now, total = time.time_ns() // 1_000_000, waiting + dead
            file.execute("PRAGMA synchronous = OFF")
            first = file.execute("UPDATE sequence SET last = last + ? RETURNING last", (total,)).fetchone()[0] - total
            rows = lambda count, make: (make(number, first + 1 + number) for number in count)
            file.executemany(
                "INSERT INTO jobs (handle, id, queue, task, enqueued, payload) VALUES (?, ?, 1, 'mail.send', ?, ?)",
                rows(range(total), lambda n, handle: (handle, job_id(n), now - 1000 + n // 1000, ARGUMENTS.format(n, n).encode())),
            )
            file.executemany(
                "INSERT INTO waiting VALUES (1, ?, ?, ?, 0)", rows(range(waiting), lambda n, handle: (handle, handle, now))
            )
            lost = range(waiting, total)
            file.executemany(
                "INSERT INTO dead (handle, ended, epoch) VALUES (?, ?, 1)", rows(lost, lambda n, handle: (handle, now + n // 100))
            )
            error = json.dumps(ERROR)
            file.executemany(
                "INSERT INTO attempts (handle, failures, losses, error) VALUES (?, 1, 0, ?)",
                rows(lost, lambda n, handle: (handle, error)),
            )
            file.execute("UPDATE queues SET waiting = waiting + ?", (waiting,))
            file.commit()
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def stop(self):
        self.directory.cleanup()


class Rq:
    """Hashes, a list and a sorted set as rq writes them."""

    lacks = ()
    narrow = ()

    def __init__(self):
        self.server = RedisServer()
        self.environment = {}
        self.where = ["--broker", self.server.url]
        loads = ["--runtime", "rq", "--preload", "rq_tasks", "--python", sys.executable]
        self.supervisor = [POOL, "run", "--queue", "elsewhere", *self.where, *loads]

    def fill(self, waiting, dead):
        with self.server.client() as client:
            job = Job.create("rq_tasks.noop", kwargs={"to": "user@example.org"}, connection=client, origin="mail")
            pattern, now = job.to_dict(), int(time.time())
            client.sadd("rq:queues", "rq:queue:mail")
            failed = dict(pattern, status="failed", ended_at=pattern["created_at"], exc_info=zlib.compress(ERROR["detail"].encode()))
            queued = dict(pattern, status="queued", enqueued_at=pattern["created_at"])

            def add(pipe, number):
                id = job_id(number)
                pipe.hset(f"rq:job:{id}", mapping=queued if number < waiting else failed)
                if number < waiting:
                    pipe.rpush("rq:queue:mail", id)
                else:
                    pipe.zadd("rq:failed:mail", {id: now + 31_536_000 + number // 1000})

            in_pipelines(client, waiting + dead, add)

    def stop(self):
        self.server.stop()


class Celery:
    """Copies of one message, and results as Celery's backend writes them."""

    lacks = ("pool dead list",)
    #: What a supervisor does not serve is asked for by name.
    narrow = ("--queue", "celery")

    def __init__(self):
        self.server = RedisServer()
        url = self.server.url
        self.environment = {"BENCH_URL": url.rsplit("/", 1)[0], "BENCH_BROKER": url, "POOL_PYTHON": sys.executable}
        self.where = ["--broker", "app:celery_tasks"]
        self.supervisor = [POOL, "celery", "-A", "celery_tasks", "worker", "-Q", "elsewhere", "-c", "1"]

    def fill(self, waiting, dead):
        with self.server.client() as queues, Redis.from_url(f"{self.environment['BENCH_URL']}/1") as results:
            first, message = self.sent()
            self.copies(queues, message.decode(), first, waiting)
            failed = {
                "status": "FAILURE",
                "result": {"exc_type": "OSError", "exc_message": ["disk full"], "exc_module": "builtins"},
                "traceback": ERROR["detail"],
                "children": [],
                "date_done": "2026-03-01T09:05:00.250000+00:00",
            }

            def add(pipe, number):
                id = job_id(waiting + number)
                pipe.set(f"celery-task-meta-{id}", json.dumps({**failed, "task_id": id}))

            in_pipelines(results, dead, add)

    def sent(self):
        """The id of a task that is sent, and its message, which is taken out again."""
        id = self.send()
        with self.server.client() as client:
            return id, client.rpop("celery")

    def send(self):
        with CeleryApp(broker=self.environment["BENCH_BROKER"], set_as_current=False) as app:
            return app.send_task("noop", kwargs={"to": "user@example.org"}, ignore_result=True).id

    def copies(self, client, message, first, count):
        tag = json.loads(message)["properties"]["delivery_tag"]
        made = lambda id: message.replace(first, id).replace(tag, f"tag-{id}")
        in_pipelines(client, count, lambda pipe, number: pipe.lpush("celery", made(job_id(number))))

    def stop(self):
        self.server.stop()


class CeleryOverRabbit(Celery):
    """Messages in RabbitMQ, which are counted and can't be listed; results in Redis."""

    lacks = (*Celery.lacks, "jobs that wait", "search: task", "search: argument")

    def __init__(self):
        super().__init__()
        self.rabbit = RabbitServer("vm_memory_high_watermark.absolute = 4GB\n")  # a million messages block at less
        self.environment["BENCH_BROKER"] = self.rabbit.url(self.rabbit.new_vhost())

    def sent(self):
        return "", b""

    def copies(self, client, message, first, count):
        self.send()
        with Connection(self.environment["BENCH_BROKER"]) as connection:
            channel = connection.default_channel
            message = channel.basic_get("celery", no_ack=True)
            kept = {name: message.properties[name] for name in ("delivery_mode", "reply_to")}
            for number in range(count):
                headers = {**message.headers, "id": job_id(number), "root_id": job_id(number)}
                copy = channel.prepare_message(message.body, 0, "application/json", "utf-8", headers, kept)
                channel.basic_publish(copy, exchange="", routing_key="celery")
                if number % 1000 == 0:
                    # Answered once the server has all before it: what it holds up is lost with the connection.
                    channel.queue_declare("celery", passive=True)
            channel.queue_declare("celery", passive=True)

    def stop(self):
        self.rabbit.stop()
        super().stop()


BROKERS = {"sqlite": Sqlite, "rq": Rq, "celery": Celery, "rabbitmq": CeleryOverRabbit}


def in_pipelines(client, count, add, size=5_000):
    for begin in range(0, count, size):
        pipe = client.pipeline(transaction=False)
        for number in range(begin, min(begin + size, count)):
            add(pipe, number)
        pipe.execute()
