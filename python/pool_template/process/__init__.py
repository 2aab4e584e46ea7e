"""What each process of ours needs:

- `control`: the messages between supervisor and template;
- `signals`: who answers which signal; `streams`: standard output and error, `log_records`: what is logged there; `title`: what `ps` shows;
- `at_fork`: what forks of the pool's own leave out; `fresh`: a process for each job; `lifeline`: who dies with whom;
- `fork_safety`: what workers would share or miss, in words;
- `shared_api`: `pool_job` for processes that jobs start.
"""
