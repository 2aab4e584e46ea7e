"""RQ's jobs:

- `settings`: the options of `rq worker`; `code`: the classes and functions that they name, imported once;
- `runner`: how a job is run; `batch`: many jobs in one call; `current`: `get_current_job()`; `environment`: RQ's variables;
- `lifecycle`: RQ's own end of a job; `raised`: exceptions of `pool_job` there; `sentinel`: where Redis is.
"""
