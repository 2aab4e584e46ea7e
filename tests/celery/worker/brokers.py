"""Brokers of the conformance suite. Each side has a database or a virtual host of its own."""

from kombu import Connection
from redis import Redis


class RedisBroker:
    """A database of a redis-server."""

    transport = 'redis'

    def __init__(self, server, database):
        self.url = f'redis://127.0.0.1:{server.port}/{database}'
        self.database = database
        self.redis = Redis.from_url(self.url)
        self.redis.flushdb()

    def waiting(self, queue):
        """How many messages wait in a queue."""
        return self.redis.llen(queue)

    def unacked(self):
        """How many messages are taken and not acknowledged."""
        return self.redis.hlen('unacked')

    def is_quiet(self):
        """No message waits, and none is unacknowledged."""
        lists = [key for key in self.redis.keys('*') if self.redis.type(key) == b'list']
        return not lists and not self.redis.exists('unacked', 'unacked_index')

    def put(self, queue, raw):
        """Puts something there that need not be a message."""
        self.redis.lpush(queue, raw)

    def shout(self, exchange, raw):
        """Sends to all who listen to a fanout exchange; returns whether somebody does."""
        return self.redis.publish(f'/{self.database}.{exchange}', raw) > 0

    def close(self):
        self.redis.close()


class RabbitBroker:
    """A virtual host of a RabbitMQ server."""

    transport = 'rabbitmq'

    def __init__(self, server):
        self.server = server
        self.vhost = server.new_vhost()
        self.url = server.url(self.vhost)

    def waiting(self, queue):
        return self.server.queues(self.vhost).get(queue, (0, 0))[0]

    def unacked(self):
        return sum(unacked for _, unacked in self.server.queues(self.vhost).values())

    def is_quiet(self):
        return not any(ready + unacked for ready, unacked in self.server.queues(self.vhost).values())

    def put(self, queue, raw):
        self._publish('', queue, raw)

    def shout(self, exchange, raw):
        bindings = self.server.api('GET', f'/bindings/{self.vhost}')
        is_heard = any(binding['source'] == exchange for binding in bindings)
        if is_heard:
            self._publish(exchange, '', raw)
        return is_heard

    def _publish(self, exchange, key, raw):
        with Connection(self.url) as connection:
            channel = connection.default_channel
            channel.basic_publish(channel.prepare_message(raw), exchange, key)

    def close(self):
        """Virtual hosts end with their server."""
