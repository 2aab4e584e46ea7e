"""Stored results, with what differs from run to run masked."""

import json
import re


def stored(redis, task_id):
    """The result of this task and its time to live."""
    raw = redis.get(f'celery-task-meta-{task_id}')
    if raw is None:
        return None
    value = json.loads(raw)
    masked = {name: value[name] for name in value}
    if value.get('date_done'):
        assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?\+00:00', value['date_done']), value
        masked['date_done'] = '<date>'
    if value.get('traceback'):
        masked['traceback'] = _frames_of_the_app(value['traceback'])
    if isinstance(value['result'], dict) and 'exc_message' in value['result']:
        # The number of a job of Celery's pool.
        masked['result'] = json.loads(re.sub(r'Job: \d+', 'Job: 0', json.dumps(value['result'])))
    if value.get('children'):
        masked['children'] = len(value['children'])
    return list(masked.items()), round(redis.ttl(f'celery-task-meta-{task_id}') / 60)


def _frames_of_the_app(text):
    lines = text.splitlines()
    return [re.sub(r'File ".*/', 'File "', line) for line in lines if 'proj.py' in line] + lines[-1:]
