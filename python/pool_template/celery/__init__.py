"""Celery's tasks:

- `settings`: the options of `celery worker`; `application`: the user's app and its worker object; `facts`: what the
  supervisor is told of it;
- `runner`: how a message is run; `plans`: what is known of each task; `process`: how a child of Celery's pool begins;
- `batches`: tasks that take many messages a call; `gathered`: such a call;
- `capture`: results that the supervisor stores; `outcome`: what it is told of a run;
- `incoming`: what Celery's parent process does with a message; `chores`: its hooks.

The code of results, canvas, retries and hooks is Celery's own: `docs/design-celery.md`.
"""
