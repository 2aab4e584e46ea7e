"""Events of a node, as they are published."""

import socket
import threading
import time
from collections import defaultdict
from types import SimpleNamespace

from kombu import Consumer


class Watch:
    """Hears all that is published to the exchange of events, on a thread of its own."""

    def __init__(self, side):
        self._came = threading.Condition()
        #: Each with `routing_key`, `headers`, `properties`, `body`.
        self.messages = []
        self._is_over = False
        self._connection = side.app.connection_for_read()
        receiver = side.app.events.Receiver(self._connection, routing_key='#')
        channel = self._connection.channel()
        self._consumer = Consumer(channel, [receiver.queue], on_message=self._take, accept=['json'], no_ack=True)
        self._consumer.consume()
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()

    def _take(self, message):
        heard = SimpleNamespace(
            routing_key=message.delivery_info.get('routing_key'),
            headers=dict(message.headers),
            properties=dict(message.properties),
            body=message.payload,
        )
        with self._came:
            self.messages.append(heard)
            self._came.notify_all()

    def _hear(self):
        while not self._is_over:
            try:
                self._connection.drain_events(timeout=0.5)
            except socket.timeout:
                pass

    def events(self):
        """All events, in their order."""
        return [event for message in list(self.messages) for event in listed(message.body)]

    def of(self, task_id):
        """Those of one task."""
        return [event for event in self.events() if event.get('uuid') == task_id]

    def until(self, is_enough, what, seconds=30):
        """Waits until the events are enough, and returns them."""
        deadline = time.monotonic() + seconds
        with self._came:
            while not is_enough(self.events()):
                left = deadline - time.monotonic()
                kinds = [(event['type'], event.get('uuid')) for event in self.events()]
                assert left > 0 and self._came.wait(left), f'{what} in time; heard {kinds[-30:]}'
        return self.events()

    def until_told(self, task_id, kind, seconds=30):
        """Waits for an event of a task; returns all of that task."""
        is_there = lambda events: any((event['type'], event.get('uuid')) == (kind, task_id) for event in events)
        self.until(is_there, f'{kind} of {task_id}', seconds)
        return self.of(task_id)

    def close(self):
        self._is_over = True
        self._thread.join(10)
        self._connection.close()


def listed(body):
    """One event, or several."""
    return body if isinstance(body, list) else [body]


def without_runs(events):
    """Events without what differs between any two runs."""
    shown = []
    for event in events:
        event = dict(event)
        for name in ('pid', 'clock', 'timestamp'):
            assert isinstance(event.pop(name), (int, float)), name
        if event.get('runtime') is not None:
            assert 0 <= event.pop('runtime') < 60
        if event.get('traceback'):
            event['traceback'] = event['traceback'].strip().splitlines()[-1]
        shown.append(event)
    return shown


def by_task(events):
    """Kinds of events in their order, by task."""
    kinds = defaultdict(list)
    for event in events:
        if 'uuid' in event:
            kinds[event['uuid']].append(event['type'])
    return kinds
