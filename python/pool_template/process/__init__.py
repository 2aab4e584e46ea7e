"""What each process of ours needs:

- `control`: the messages between supervisor and template;
- `signals`: who answers which signal; `streams`: standard output and error; `title`: what `ps` shows;
- `at_fork`: what a fork of a worker need not do; `fresh`: a process for each job;
- `fork_safety`: what workers would share or miss, in words;
- `shared_api`: `pool_job` for processes that jobs start.
"""
