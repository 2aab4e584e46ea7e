"""No task is lost and none ends twice without a reason, whatever dies. `LEDGER_TASKS=10000` runs as many, and
`LEDGER_STOCK=1` the stock worker, which promises less: its figures are printed."""

import os

import pytest

from worker import ledger

TASKS = int(os.environ.get('LEDGER_TASKS', '400'))
KIND = 'stock' if 'LEDGER_STOCK' in os.environ else 'pool'
FAULTS = ['worker', 'template', 'connections', 'supervisor', 'worker', 'server']
if TASKS > 1000:
    FAULTS *= 5


def test_faults(transport, capsys):
    faults = [fault for fault in FAULTS if KIND == 'pool' or fault != 'template']
    found, kills = ledger.run(KIND, transport, TASKS, faults)
    early, late = found['early'], found['late']
    with capsys.disabled():
        if TASKS > 1000:
            print(f'\n{KIND} over {transport}, {TASKS} tasks, {len(faults)} faults: early: {early}; late: {late}')
    if KIND == 'stock':
        return
    in_hand = kills * ledger.IN_HAND_MAX
    assert not late.lost and not late.failed, late
    assert len(late.begun_again) <= in_hand and len(late.ended_twice) <= in_hand, late
    # An early one is acknowledged when it begins: what ran when its process was killed is lost.
    assert len(early.lost + early.failed) <= in_hand, early
    assert len(early.ended_twice) <= in_hand, early
