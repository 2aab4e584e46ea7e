"""Measures pool beside Celery's own worker with the same number of processes.

    scripts/bench celery throughput          no-op tasks with results and with ignore_result, two workers
    scripts/bench celery throughput celery pool   those that are named
    scripts/bench celery memory              8 workers of an application of 190 MiB (catalog.py) after 800 tasks;
                                             --preload heavy: one of 150 MB
    scripts/bench celery burst               200 tasks of 0.5 s at once on 2 to 24 workers, with the policy `demand`

They are run in turns over one Redis server, which keeps the queue and the results; or the results alone, where the name says
RabbitMQ. Prints a table; --json adds a file.
"""

import measures
from burst import burst
from peers import Celery, CeleryOverRabbit, celery, pool_celery

PEERS = {
    peer.name: peer
    for peer in [
        Celery('pool', 120_000, pool_celery),
        Celery('celery', 8_000, celery),
        Celery('pool, ignore_result', 120_000, pool_celery, ignores_results=True),
        Celery('celery, ignore_result', 8_000, celery, ignores_results=True),
        CeleryOverRabbit('pool, RabbitMQ', 60_000, pool_celery),
        CeleryOverRabbit('celery, RabbitMQ', 12_000, celery),
    ]
}


def throughput(chosen, server, options):
    """Tasks a second, and whose processor time each takes."""
    return measures.throughput(chosen, server, options, shares)


def shares(jobs, seconds, first, below, commands, redis, broker):
    return {
        'jobs/s': jobs / seconds,
        'main process µs/job': first / jobs * 1e6,
        'workers µs/job': below / jobs * 1e6,
        'Redis µs/job': redis / jobs * 1e6,
        'Redis commands/job': commands / jobs,
        'RabbitMQ µs/job': broker / jobs * 1e6,
    }


MEASURES = {
    'throughput': (throughput, list(PEERS)),
    'memory': (measures.of_each(measures.memory), ['pool', 'celery']),
    'burst': (measures.of_each(burst), ['pool', 'pool, RabbitMQ']),
}


if __name__ == '__main__':
    parser = measures.parser('scripts/bench celery', __doc__, MEASURES, PEERS)
    measures.run(parser, MEASURES, PEERS, pool_of=lambda name: name.replace('celery', 'pool'))
