"""Measures workers of several peers in turns, over one Redis server: what all benches of workers share.

A peer is one of `peers`. A measure takes peers, server and options, and returns a row of figures for each peer.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter

from support import child
from support.server import RedisServer
from support.wait import until

import probe

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


def throughput(chosen, server, options, figures):
    """Jobs a second between the first tenth and the last of each round, and what each of them costs: `figures` of all
    that was counted."""
    spent = {peer.name: Counter() for peer in chosen}
    for peer, share in in_rounds(chosen, options, 6, lambda peer: options.jobs or peer.jobs):
        spent[peer.name].update(work(peer, share, server, options))
    return {name: figures(**counted) for name, counted in spent.items()}


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
    """Jobs, seconds, commands to Redis, and CPU seconds of the first process, of those below it, of Redis and of another
    broker, once a tenth of so many jobs is done."""
    arguments = [(number,) if options.task == 'read_part' else () for number in range(count)]
    jobs = (options.preload or 'rq_tasks', options.task, arguments)
    with working(peer, server, options.workers, options.preload, jobs) as pids:
        first = int(count * WARM_UP_SHARE)
        until(lambda: peer.done() >= first, f'{peer.name} works', 300)
        with server.client() as client:
            begin, before, used = time.monotonic(), peer.done(), probe.cpu_seconds(pids)
            first_used, (commands, redis_cpu) = probe.cpu_seconds(pids, below=False), probe.redis_use(client)
            broker_used = probe.cpu_seconds(peer.brokers())
            polls = progress(peer, count)
            seconds, jobs = time.monotonic() - begin, peer.done() - before
            commands_after, redis_cpu_after = probe.redis_use(client)
            first_used = probe.cpu_seconds(pids, below=False) - first_used
            below_used = probe.cpu_seconds(pids) - used - first_used
            broker_used = probe.cpu_seconds(peer.brokers()) - broker_used
    return Counter(
        jobs=jobs,
        seconds=seconds,
        first=first_used,
        below=below_used,
        commands=commands_after - commands - polls,
        redis=redis_cpu_after - redis_cpu,
        broker=broker_used,
    )


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


def memory(peer, server, options):
    """Memory of 8 workers that hold an application of 190 MiB, after 800 jobs that read it."""
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


def table(measure, rows, pool_of):
    """A Markdown table; its last column says how many times better the first figure of pool's row is."""
    columns = list(next(iter(rows.values())))
    lines = [[measure, *columns, 'pool is better by'], ['---', *['---:'] * (len(columns) + 1)]]
    for name, row in rows.items():
        ratio = better(columns[0], rows.get(pool_of(name)), row)
        lines.append([name, *(figure(row[column]) for column in columns), ratio])
    print('\n' + '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines))


def figure(value):
    return f'{value:,.0f}' if value >= 999.5 else f'{value:.3g}'  # which else writes 1e+03


def better(column, ours, row):
    if not ours or ours is row:
        return ''
    more_is_better = column == 'jobs/s'
    top, bottom = (ours[column], row[column]) if more_is_better else (row[column], ours[column])
    return f'{top / bottom:.1f}×' if bottom else '∞'


def of_each(measure):
    """A measure of one peer, as one of all."""

    def measure_each(chosen, server, options):
        rows = {}
        for peer in chosen:
            print(f'{peer.name} …', file=sys.stderr)
            rows[peer.name] = measure(peer, server, options)
        return rows

    return measure_each


def parser(prog, description, measures, peers):
    """What all benches are told on their command lines; `measures`: by name, the function and the peers that fit."""
    parser = argparse.ArgumentParser(prog=prog, description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('measure', choices=measures)
    parser.add_argument('peers', nargs='*', help='default: all that fit; known: ' + '; '.join(peers))
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--jobs', type=int, help='instead of the number that suits each peer')
    parser.add_argument('--rounds', type=int, help='in so many parts what takes turns is measured (5 or 6)')
    parser.add_argument('--preload', help='the application that is loaded before the first fork')
    parser.add_argument('--task', default='noop', help='what the jobs of throughput do: noop, or read_part of heavy')
    parser.add_argument('--json', help='write the figures to this file as well')
    return parser


def run(parser, measures, peers, pool_of=lambda name: 'pool'):
    """Measures what the command line asks for; `pool_of` names the row that another is compared with."""
    options = parser.parse_intermixed_args()
    unknown = set(options.peers) - peers.keys()
    if unknown:
        parser.error(f'no such peer: {", ".join(sorted(unknown))}; known: {", ".join(peers)}')
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('terminated'))  # by `timeout`, say: what was started ends first
    measure, fitting = measures[options.measure]
    server = RedisServer()
    os.environ['BENCH_URL'] = server.url.removesuffix('/0')
    try:
        rows = measure([peers[name] for name in options.peers or fitting], server, options)
    finally:
        server.stop()
    table(options.measure, rows, pool_of)
    if options.json:
        with open(options.json, 'w') as file:
            json.dump({'measure': options.measure, 'workers': options.workers, 'rows': rows}, file, indent=2)
