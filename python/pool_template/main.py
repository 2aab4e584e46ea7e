"""The template's life: load, report, fork on request, leave."""

from __future__ import annotations

import atexit
import faulthandler
import os
import sys
import time
import traceback
from typing import Any, NoReturn, Optional

import pool_job
from pool_template import loader, rehearsal, worker
from pool_template.memory import arenas, heap, huge_pages, immortal
from pool_template.process import at_fork, fork_safety, log_records, streams
from pool_template.process.control import ControlError, ControlSocket, Load
from pool_template.template import Template
from pool_template.process.title import Title

CONTROL_FD, LIFELINE_FD = 3, 4


def main() -> NoReturn:
    """Never returns: interpreter shutdown would wait for threads of the application."""
    code = 1
    try:
        code = _run()
    except (ControlError, OSError) as error:
        print(f"pool: template: {error}; leaving", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        streams.flush()
        os._exit(code)


def _run() -> int:
    started = time.monotonic()
    for descriptor in (CONTROL_FD, LIFELINE_FD):
        os.set_inheritable(descriptor, False)
    streams.make_line_buffered()
    control = ControlSocket(CONTROL_FD)
    what = _first_message(control)
    if what is None:
        return 0
    at_fork.allow(not what.all_fork_hooks)
    title = Title.claim()
    about = f"pool: template python gen {what.generation}"
    title.set("pool-template", about + " (loading)")
    open_before = fork_safety.open_descriptors()
    try:
        app = loader.load(what)
    except loader.LoadError as error:
        control.send("failed", error=str(error), detail=error.detail)
        return 1
    if not faulthandler.is_enabled():
        faulthandler.enable(file=2)  # a crash in a worker says where
    log_records.mark_records()
    setup = worker.Setup(what, app, title)
    facts, unfit = app.dialect.facts(), app.dialect.warnings()
    at_fork.look_no_more()
    rehearsal.rehearse(setup)
    report = _report(what, open_before)
    report["unfit"] = unfit
    report["batches"] = app.dialect.batches()
    if what.find_tasks:
        report["unknown_tasks"] = loader.unknown_tasks(app, what.find_tasks)
    template = Template(control, LIFELINE_FD, setup)
    title.set("pool-template", about)
    control.send_facts(facts)
    control.send("ready", load_s=time.monotonic() - started, **report)
    template.serve()
    atexit._run_exitfuncs()
    return 0


def _first_message(control: ControlSocket) -> Optional[Load]:
    received = control.receive()
    if received is None or received[0].get("type") == "stop":
        return None
    if received[0].get("type") != "load":
        raise ControlError(f"the supervisor's first message is {received[0].get('type')!r}, expected 'load'")
    return Load.from_message(received[0])


def _report(what: Load, open_before: dict[int, str]) -> dict[str, Any]:
    """Gets memory ready for forks, and says what was found."""
    warnings = fork_safety.report(open_before)
    arenas.release()
    heap.clean()
    made_immortal = immortal.make(what.immortal)
    heap.give_back()
    heap.freeze()
    if what.fresh:
        heap.tidy()
    collapsed, skipped = huge_pages.collapse_heap() if what.huge_pages else (0, "app.huge_pages is off")
    return {
        "runtime": "python " + ".".join(map(str, sys.version_info[:3])),
        "collapsed_bytes": collapsed,
        "collapse_skipped": skipped,
        **made_immortal._asdict(),
        "warnings": warnings,
    }
