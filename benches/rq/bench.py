"""Measures pool's RQ workers beside the worker pools that Python has.

    scripts/bench rq throughput              no-op jobs with results, two workers
    scripts/bench rq throughput --preload heavy   the same with an application of 150 MB; --task read_part reads it
    scripts/bench rq latency                 from the call of enqueue to the start of the function
    scripts/bench rq idle                    commands that an idle worker sends to Redis, and an idle `pool wait`
    scripts/bench rq fanout                  what a client asks of Redis that waits for ten jobs of two seconds
    scripts/bench rq mappers                 1000 jobs of an application with 150 SQLAlchemy classes
    scripts/bench rq memory                  8 workers of an application of 190 MiB (catalog.py) after 800 jobs

All peers of a run share its Redis server, one after the other; for throughput and latency, several times. Prints a table; --json adds a file.
"""

import argparse
import contextlib
import gc
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time

from support import child
from support.server import RedisServer
from support.wait import until

import probe
import waiting
from peers import PEERS

POOLS = ['pool', 'rq worker-pool', 'rq worker-pool, SimpleWorker', 'celery', 'dramatiq, prefetch 64', 'huey']
MIB = 1024 * 1024
WARM_UP_SHARE = 0.1  # of the jobs; before them the workers start


@contextlib.contextmanager
def working(peer, server, workers, preload=None, jobs=None):
    """Workers of one peer, on a server emptied before; `jobs` are enqueued first."""
    with server.client() as client:
        client.flushall()
    peer.connect(server.url)
    if jobs:
        peer.send(*jobs)
    processes = [
        # Should the bench be killed, it asks them to end: a killed one would leave its own workers behind.
        child.start(
            command,
            on_death=signal.SIGTERM,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for command in peer.commands(server.url, workers, preload)
    ]
    try:
        yield [process.pid for process in processes]
    finally:
        below = probe.tree([process.pid for process in processes])
        for process in processes:
            process.terminate()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        for process in processes:
            process.wait()


def throughput(chosen, server, options):
    """Jobs a second between the first tenth and the last of each round, and what each of them costs."""
    spent = {peer.name: [] for peer in chosen}
    for peer, share in in_rounds(chosen, options, 6, lambda peer: options.jobs or peer.jobs):
        spent[peer.name].append(work(peer, share, server, options))
    return {name: per_job(*map(sum, zip(*rounds))) for name, rounds in spent.items()}


def in_rounds(chosen, options, usual, jobs_of):
    """Each peer with its share of its jobs, in rounds, in each of which all peers have their turn: what else this
    machine does then meets all of them."""
    rounds = options.rounds or usual
    for number in range(rounds):
        for peer in chosen:
            print(f'{peer.name} …', file=sys.stderr)
            count = jobs_of(peer)
            yield peer, count * (number + 1) // rounds - count * number // rounds


def work(peer, count, server, options):
    """Jobs, seconds, CPU seconds, commands to Redis and its CPU seconds, once a tenth of so many jobs is done."""
    arguments = [(number,) if options.task == 'read_part' else () for number in range(count)]
    jobs = (options.preload or 'rq_tasks', options.task, arguments)
    with working(peer, server, options.workers, options.preload, jobs) as pids:
        first = int(count * WARM_UP_SHARE)
        until(lambda: peer.done() >= first, f'{peer.name} works', 300)
        with server.client() as client:
            begin, before, used = time.monotonic(), peer.done(), probe.cpu_seconds(pids)
            commands, redis_cpu = probe.redis_use(client)
            polls = progress(peer, count)
            seconds, jobs = time.monotonic() - begin, peer.done() - before
            commands_after, redis_cpu_after = probe.redis_use(client)
            used = probe.cpu_seconds(pids) - used
    return jobs, seconds, used, commands_after - commands - polls, redis_cpu_after - redis_cpu


def per_job(jobs, seconds, used, commands, redis_cpu):
    return {
        'jobs/s': jobs / seconds,
        'CPU ms/job': used / jobs * 1000,
        'Redis CPU ms/job': redis_cpu / jobs * 1000,
        'Redis commands/job': commands / jobs,
    }


def progress(peer, count):
    """Waits until all jobs are done; returns how often it looked."""
    polls, done, still_since = 0, 0, time.monotonic()
    while done < count:
        time.sleep(0.05)
        polls += 1
        now_done = peer.done()
        if now_done > done:
            done, still_since = now_done, time.monotonic()
        if time.monotonic() - still_since > 60:
            raise SystemExit(f'error: {peer.name} stopped at {done} of {count} jobs')
    return polls


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


def memory(peer, server, options):
    """Memory of 8 workers that hold the application of 190 MiB, after 800 jobs that read it."""
    count = options.jobs or 800
    app = options.preload or 'catalog'
    with working(peer, server, 8, app) as pids:
        new = steady(pids)
        peer.send(app, 'read_part', [(number,) for number in range(count)])
        progress(peer, count)
        found = steady(pids)
    before, after = private_mib(new), private_mib(found)
    return {
        'PSS MiB': sum(pss for pss, _ in found) / MIB,
        'processes': len(found),
        'private MiB a worker': after,
        'of it by jobs': max(after - before, 0),
    }


def steady(pids):
    """The memory of all processes once all have loaded, or the last fork has left: when it stays the same."""
    last, since = 0, time.monotonic()
    while time.monotonic() - since < 3:
        time.sleep(0.5)
        found = probe.memory(pids)
        total = sum(pss for pss, _ in found)
        if abs(total - last) > last / 100:
            last, since = total, time.monotonic()
    return found


def private_mib(found):
    """What the median of the 8 workers shares with nobody."""
    return statistics.median(sorted(private for _, private in found)[-8:]) / MIB


MEASURES = {
    'throughput': (throughput, POOLS),
    'latency': (latency, POOLS),
    'idle': (idle, POOLS),
    'fanout': (fanout, list(waiting.CLIENTS)),
    'mappers': (mappers, ['pool', 'rq worker-pool, mappers configured', 'rq worker-pool, app imported']),
    'memory': (memory, ['pool', 'pool, immortal off', 'rq worker, separate', 'rq worker-pool, SimpleWorker', 'celery']),
}


def table(measure, rows):
    """A Markdown table; its last column says how many times better pool's first figure is."""
    columns = list(next(iter(rows.values())))
    lines = [[measure, *columns, 'pool is better by'], ['---', *['---:'] * (len(columns) + 1)]]
    for name, row in rows.items():
        lines.append([name, *(figure(row[column]) for column in columns), better(columns[0], rows.get('pool'), row)])
    print('\n' + '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines))


def figure(value):
    return f'{value:,.0f}' if value >= 1000 else f'{value:.3g}'


def better(column, ours, row):
    if not ours or ours is row:
        return ''
    more_is_better = column == 'jobs/s'
    top, bottom = (ours[column], row[column]) if more_is_better else (row[column], ours[column])
    return f'{top / bottom:.1f}×' if bottom else '∞'


def arguments():
    parser = argparse.ArgumentParser(
        prog='scripts/bench rq', description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('measure', choices=MEASURES)
    parser.add_argument('peers', nargs='*', help='default: all that fit; known: ' + '; '.join(PEERS))
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--jobs', type=int, help='instead of the number that suits each peer')
    parser.add_argument('--rounds', type=int, help='in so many parts throughput (6) or latency (5) is measured')
    parser.add_argument('--seconds', type=float, default=30, help='how long idle watches')
    parser.add_argument('--preload', help='the application that is loaded before the first fork')
    parser.add_argument('--task', default='noop', help='what the jobs of throughput do: noop, or read_part of heavy')
    parser.add_argument('--json', help='write the figures to this file as well')
    options = parser.parse_intermixed_args()
    unknown = set(options.peers) - PEERS.keys()
    if unknown:
        parser.error(f'no such peer: {", ".join(sorted(unknown))}; known: {", ".join(PEERS)}')
    return options


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('terminated'))  # by `timeout`, say: what was started ends first
    measure, fitting = MEASURES[options.measure]
    server = RedisServer()
    os.environ['BENCH_URL'] = server.url.removesuffix('/0')
    chosen = [PEERS[name] for name in options.peers or fitting]
    rows = {}
    try:
        if measure in (latency, throughput):
            rows = measure(chosen, server, options)
        else:
            for peer in chosen:
                print(f'{peer.name} …', file=sys.stderr)
                rows[peer.name] = measure(peer, server, options)
    finally:
        server.stop()
    table(options.measure, rows)
    if options.json:
        with open(options.json, 'w') as file:
            json.dump({'measure': options.measure, 'workers': options.workers, 'rows': rows}, file, indent=2)


if __name__ == '__main__':
    main()
