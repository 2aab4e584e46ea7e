"""Jobs, one after the other:

- `frames`: the packets of the job socket; `loop`: read one, run it, answer;
- `functions`: how a function with JSON arguments is one job; `names`: which functions jobs may name;
- `batch`: one call for many jobs; `deadline`: timeouts; `errors`: what failures say;
- `lineage`: processes that a job forks; `progress`: how far a job says that it is.
"""
