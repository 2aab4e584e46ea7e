"""What a worker stored, in a form in which two workers can be compared."""

import json
import re


def result_of(side, result):
    """The stored result of one task, less what differs between any two runs."""
    raw = side.redis.get(f'celery-task-meta-{result.id}')
    if raw is None:
        return None
    meta = json.loads(raw)
    meta.pop('date_done')
    meta['ttl'] = side.redis.ttl(f'celery-task-meta-{result.id}') > 3000
    meta['traceback'] = None if meta['traceback'] is None else last_lines(meta['traceback'])
    if isinstance(meta['result'], dict) and 'exc_message' in meta['result']:
        meta['result']['exc_message'] = re.sub(r'Job: \d+', 'Job: N', str(meta['result']['exc_message']))
    return nameless(meta, [result.id])


def nameless(value, ids):
    """Ids are named by their first appearance."""
    text = json.dumps(value, sort_keys=True)
    found = list(ids)
    for match in re.findall(r'[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}', text):
        if match not in found:
            found.append(match)
    for at, match in enumerate(found):
        text = text.replace(match, f'id-{at}')
    return json.loads(text)


def last_lines(traceback):
    """A traceback of the user's code: where it ended. Celery's own frames are at other lines for each version."""
    text = re.sub(r'Job: \d+', 'Job: N', traceback)
    return text.strip().splitlines()[-1]


def tree_of(side, result):
    """All results that hang together: this one's, its parents', its children's."""
    tree = [result_of(side, result)]
    if result.parent is not None:
        tree.append(tree_of(side, result.parent))
    for child in getattr(result, 'results', None) or []:
        tree.append(tree_of(side, child))
    return tree
