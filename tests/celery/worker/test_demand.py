"""The policy `demand` with Celery's tasks, over each transport."""

import re

from support.wait import until


def test_a_burst_grows_the_pool_in_one_jump_and_it_shrinks_again(alone):
    side = alone('pool')
    # No short task before them: what it took would be expected of them, too, and the pool would feel its way.
    options = ['--policy', 'demand', '--scaling-period', '1s', '--utilization-window', '3s']
    side.start('--autoscale', '12,2', *options, ready=False)
    until(lambda: 'app loaded' in side.output(), 'it takes tasks')
    results = [side.send('shop.sleeps', f'nap {n}', 0.5) for n in range(60)]
    until(lambda: re.search(r'scaled up .*workers=\d+→12', side.output()), 'it has all workers')
    until(lambda: all(result.ready() for result in results), 'all tasks have ended')
    until(lambda: re.search(r'scaled down .*workers=\d+→2\b', side.output()), 'it has two workers again')
    assert all(side.runs(f'nap {n}') == 1 for n in range(60))
    changes = [side.output().count(change) for change in ('scaled up', 'scaled down')]
    assert all(1 <= count <= 3 for count in changes), side.output()
