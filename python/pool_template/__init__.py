"""The template and the workers of the Python runtime, in reading order:

- `main`: the template's life: load, report, fork on request;
- `control`: the messages between supervisor and template;
- `loader`: imports, hooks, dotted names;
- `fork_safety`: what workers would share or miss, in words;
- `huge_pages`: makes forks cheap; `title`: what `ps` shows; `signals`: who answers which signal;
- `rehearsal`: what is done once, before the first fork;
- `template`: forks and reaps; `at_fork`: what a fork of its need not do;
- `worker`: from the fork to the first job, and the exit; `fresh`: a process for each job; `shared_api`: `pool_job` for processes of jobs;
- `frames`, `job_loop`: the job socket, and one job after the other;
- `tasks`, `names`, `deadline`, `errors`: how a function with JSON arguments is one job;
- `rq_settings`, `rq_code`: what RQ's options name, imported once;
- `rq_runner`, `rq_current`, `rq_environment`, `rq_lifecycle`: how RQ's jobs are run.

Standard library only (`rq_*`: and RQ with its client), Python 3.9 or newer. `docs/protocol.md` specifies both sockets.
"""
