"""Measures pool's RQ workers beside the worker pools that Python has.

    scripts/bench rq throughput              no-op jobs with results, two workers
    scripts/bench rq throughput --preload heavy   the same with an application of 150 MB; --task read_part reads it
    scripts/bench rq latency                 from the call of enqueue to the start of the function
    scripts/bench rq idle                    commands that an idle worker sends to Redis, and an idle `pool wait`
    scripts/bench rq fanout                  what a client asks of Redis that waits for ten jobs of two seconds
    scripts/bench rq mappers                 1000 jobs of an application with 150 SQLAlchemy classes
    scripts/bench rq memory                  8 workers of an application of 190 MiB (catalog.py) after 800 jobs
    scripts/bench rq kinds                   jobs with callbacks, Repeat or RateLimit, and Django's tasks, beside SimpleWorker
    scripts/bench rq burst                   200 jobs of 0.5 s at once on 2 to 24 workers, with the policy `demand`

All peers of a run share its Redis server, one after the other; for throughput and latency, several times. Prints a table; --json adds a file.
"""

import contextlib
import gc
import itertools
import statistics
import sys
import time

from support.wait import until

import kinds
import measures
import probe
import waiting
from burst import burst
from measures import in_rounds, memory, of_each, progress, working
from peers import PEERS

POOLS = ['pool', 'rq worker-pool', 'rq worker-pool, SimpleWorker', 'celery', 'dramatiq, prefetch 64', 'huey']


def latency(chosen, server, options):
    """Milliseconds from the call of enqueue to the start of the function, one job at a time."""
    asked = {peer.name: [] for peer in chosen}
    for peer, share in in_rounds(chosen, options, 5, lambda _: options.jobs or 300):
        with working(peer, server, options.workers):
            asked[peer.name].append(ask_again_and_again(peer, share))
    return {name: delays(rounds) for name, rounds in asked.items()}


def ask_again_and_again(peer, count):
    """When enqueue was called, had returned, and the function started, in nanoseconds, of so many jobs."""
    for _ in range(20):
        peer.ask('rq_tasks', 'now')
    times = []
    with no_collection():
        for _ in range(count):
            time.sleep(0.01)  # the workers fall idle
            called = time.monotonic_ns()
            started, enqueued = peer.ask('rq_tasks', 'now')
            times.append((called, enqueued, started))
    return times


@contextlib.contextmanager
def no_collection():
    """This client's garbage is left lying: a collection takes longer than a job, and is no peer's doing."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def delays(rounds):
    """Of all rounds together; and the lowest and the highest median of one of them."""
    of_round = [sorted((started - called) / 1e6 for called, _, started in times) for times in rounds]
    whole = sorted(itertools.chain(*of_round))
    after = sorted((started - enqueued) / 1e6 for times in rounds for _, enqueued, started in times)
    medians = [statistics.median(times) for times in of_round]
    late = int(len(whole) * 0.99)
    return {
        'p50 ms': statistics.median(whole),
        'p99 ms': whole[late],
        'lowest p50 of a round': min(medians),
        'highest': max(medians),
        'after enqueue p50 ms': statistics.median(after),
        'after enqueue p99 ms': after[late],
    }


def idle(peer, server, options):
    """Commands a second that one idle worker sends."""
    with working(peer, server, options.workers) as pids, server.client() as client:
        peer.ask('rq_tasks', 'now')
        time.sleep(3)
        (before, _), used = probe.redis_use(client), probe.cpu_seconds(pids)
        told = probe.commands(client)
        time.sleep(options.seconds)
        told = probe.commands(client) - told
        (after, _), used = probe.redis_use(client), probe.cpu_seconds(pids) - used
    names = ', '.join(f'{name} {count}' for name, count in sorted(told.items()) if not name.startswith('info'))
    print(f'{peer.name} in {options.seconds:g} s, those inside scripts included: {names or "nothing"}', file=sys.stderr)
    if peer.name == 'pool':
        asked = waiting.idle_client(server, options.seconds)
        print(f'`pool wait` in {options.seconds:g} s: {len(asked)} commands {asked or ""}', file=sys.stderr)
    # The four questions before the end of the interval are not the worker's.
    return {
        'Redis commands/s a worker': max(after - before - 4, 0) / options.seconds / options.workers,
        'CPU ms/s a worker': used / options.seconds / options.workers * 1000,
    }


def fanout(peer, server, options):
    """What a client asks that waits for ten jobs at the same time, and how late it is."""
    with working(peer, server, waiting.SUBTASKS):
        return waiting.fan_out(peer, server)


def mappers(peer, server, options):
    """Seconds for 1000 jobs that each write one row; from fewer jobs where each costs a second."""
    count = options.jobs or min(peer.jobs, 1000)
    jobs = ('mapped', 'record_event', [(number,) for number in range(count)])
    with working(peer, server, 4, 'mapped', jobs) as pids:
        until(lambda: peer.done() >= 1, f'{peer.name} works', 300)
        began, before, used = time.monotonic(), peer.done(), probe.cpu_seconds(pids)
        progress(peer, count)
        seconds, used = time.monotonic() - began, probe.cpu_seconds(pids) - used
    scale = 1000 / (count - before)
    return {'s for 1000 jobs': seconds * scale, 'CPU s for 1000 jobs': used * scale}


def throughput(chosen, server, options):
    """Jobs a second, and what each costs."""
    return measures.throughput(chosen, server, options, per_job)


def per_job(jobs, seconds, first, below, commands, redis, broker):
    return {
        'jobs/s': jobs / seconds,
        'CPU ms/job': (first + below) / jobs * 1000,
        'Redis CPU ms/job': redis / jobs * 1000,
        'Redis commands/job': commands / jobs,
    }


MEASURES = {
    'throughput': (throughput, POOLS),
    'latency': (latency, POOLS),
    'idle': (of_each(idle), POOLS),
    'fanout': (of_each(fanout), list(waiting.CLIENTS)),
    'kinds': (kinds.kinds, ['pool', 'rq worker-pool, SimpleWorker']),
    'burst': (of_each(burst), ['pool']),
    'mappers': (of_each(mappers), ['pool', 'rq worker-pool, mappers configured', 'rq worker-pool, app imported']),
    'memory': (of_each(memory), ['pool', 'pool, immortal off', 'rq worker, separate', 'rq worker-pool, SimpleWorker', 'celery']),
}


if __name__ == '__main__':
    parser = measures.parser('scripts/bench rq', __doc__, MEASURES, PEERS)
    parser.add_argument('--seconds', type=float, default=30, help='how long idle watches')
    measures.run(parser, MEASURES, PEERS, lambda name: kinds.pool_of(name) if ':' in name else 'pool')
