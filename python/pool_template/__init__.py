"""The template and the workers of the Python runtimes, in reading order:

- `main`: the template's life: load, report, fork on request, leave;
- `loader`: imports and hooks; `dialects`: how jobs are written, each found by its name; `rehearsal`: what is done once, before the first fork;
- `template`: forks and reaps; `worker`: from the fork to the first job, and the exit;
- `process/`: what each process of ours needs: messages, signals, streams, its title, forks;
- `memory/`: where the heap lies, and huge pages;
- `jobs/`: the job socket, one job after the other, and functions with JSON arguments;
- `rq/`: how RQ's jobs are run; `celery/`: how Celery's tasks are.

Standard library only (`rq/`: and RQ with its client; `celery/`: and Celery with what it needs), Python 3.9 or newer. `docs/protocol.md` specifies both sockets.
"""
