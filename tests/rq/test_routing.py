"""Several supervisors on one Redis, as several hosts are, each with queues of its own."""

from rq import Queue, Worker

import jobs
from support.wait import until


def test_each_host_serves_its_queues_and_all_are_seen(work, redis):
    work.start('urgent', name='first')
    work.start('reports', name='second')
    seen = {worker.name: worker.queue_names() for worker in Worker.all(connection=redis)}
    assert seen == {'first': ['urgent'], 'second': ['reports']}

    report = Queue('reports', connection=redis).enqueue(jobs.hold)
    redis.blpop(['entered'], timeout=30)
    urgent = Queue('urgent', connection=redis).enqueue(jobs.add, 2, 3)
    until(urgent.return_value, 'the urgent job ends while the report runs')
    urgent.refresh()
    assert (urgent.return_value(), urgent.worker_name) == (5, 'first')
    assert report.get_status(refresh=True) == 'started'

    redis.rpush('gate', 'open')
    until(report.return_value, 'the report ends')
    report.refresh()
    assert report.worker_name == 'second'


def test_a_host_that_stops_leaves_its_queue_to_the_other(work, redis):
    both = ('urgent', 'reports')
    first = work.start(*both, name='first')
    work.start(*both, name='second')
    first.stop()
    queues = [Queue(name, connection=redis) for name in both]
    ids = [queue.enqueue(jobs.add, number, 1) for queue in queues for number in range(20)]
    until(lambda: all(job.return_value() is not None for job in ids), 'all jobs end')
    assert [job.return_value() for job in ids] == [number + 1 for number in range(20)] * 2
