"""What processes and Redis used: read from /proc and INFO."""

import os
from collections import Counter
from pathlib import Path

TICKS = os.sysconf('SC_CLK_TCK')


def tree(roots):
    """The processes `roots` and all below them."""
    found = list(roots)
    for pid in found:
        try:
            for task in Path(f'/proc/{pid}/task').glob('*/children'):
                found += [int(child) for child in task.read_text().split()]
        except OSError:  # it ended meanwhile
            pass
    return found


def cpu_seconds(roots, below=True):
    """Processor time of a tree, or of its roots alone; reaped children included."""
    total = 0
    for pid in tree(roots) if below else roots:
        try:
            fields = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
        except OSError:
            continue
        total += sum(int(field) for field in fields[11:15])
    return total / TICKS


def memory(roots):
    """`(proportional, private)` bytes of each process of a tree that is a program of its own."""
    found = []
    for pid in tree(roots):
        try:
            lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()[1:]
        except OSError:
            continue
        kib = {line.split(':')[0]: int(line.split()[1]) for line in lines}
        found.append((kib['Pss'] * 1024, (kib['Private_Clean'] + kib['Private_Dirty']) * 1024))
    return found


def redis_use(client):
    """Commands run so far (those inside scripts included), and the server's processor time in seconds."""
    stats, cpu = client.info('stats'), client.info('cpu')
    return stats['total_commands_processed'], cpu['used_cpu_user'] + cpu['used_cpu_sys']


def commands(client):
    """How often each command was run so far, those inside scripts included."""
    stats = client.info('commandstats')
    return Counter({name.removeprefix('cmdstat_'): each['calls'] for name, each in stats.items()})
