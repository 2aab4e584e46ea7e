"""Cron jobs, as `rq cron cron_jobs` takes them."""

from rq import cron

import jobs

cron.register(
    jobs.add,
    'cron',
    args=(1,),
    kwargs={'b': 2},
    cron='* * * * * *',
    job_timeout=33,
    result_ttl=44,
    meta={'made': 'by cron'},
    name='every_second',
)
cron.register(jobs.add, 'other', args=(1, 2), interval=3600)
