"""Messages as they lie in Redis, and what the supervisor makes of them."""

import base64
import json

from celery import Celery

TASK, WHOLE, CHORE = 1, 2, 3


def producer(url, backend=None):
    """An app that sends tasks and knows none."""
    app = Celery('producer', broker=url, backend=backend, set_as_current=False)
    app.conf.broker_transport_options = {'visibility_timeout': 60}
    return app


def taken(redis, queue='celery'):
    """The message that waits there, as an envelope."""
    raw = redis.rpop(queue)
    assert raw is not None, f'nothing waits in {queue}'
    return json.loads(raw)


def payload(envelope, **more):
    """A frame's payload; `more` goes into what stands ahead of the body."""
    meta = {
        'headers': envelope['headers'],
        'properties': envelope['properties'],
        'content_type': envelope['content-type'],
        'content_encoding': envelope['content-encoding'],
        **more,
    }
    text = json.dumps(meta).encode()
    body = envelope['body']
    is_encoded = envelope['properties'].get('body_encoding') == 'base64'
    body = base64.b64decode(body) if is_encoded else body.encode()
    return len(text).to_bytes(4, 'little') + text + body
