"""A RabbitMQ server of our own on free loopback ports, stopped by its process id. Tests have virtual hosts of their own."""

import base64
import itertools
import json
import os
import secrets
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from support import child
from support.server import free_port
from support.wait import until

#: Debian's wrapper in /usr/sbin wants the user rabbitmq; the programs behind it do not.
PROGRAMS = '/usr/lib/rabbitmq/bin'


def is_installed():
    return Path(PROGRAMS, 'rabbitmq-server').exists()


class Rabbit:
    """A server that another process may have started: known by its directory and its ports."""

    def __init__(self, directory, ports):
        self.path, self.ports = Path(directory), ports
        self.port, self.management, self.epmd_port, self.nodes = ports
        self.numbers = itertools.count()

    def place(self):
        """What another process needs to know of it."""
        return {'directory': str(self.path), 'ports': self.ports}

    def wait(self):
        """Until it takes connections."""
        until(self._is_ready, 'RabbitMQ starts', 120)

    def _is_ready(self):
        return 'completed with' in self._said()

    def _said(self):
        return (self.path / 'out').read_text()

    def environment(self):
        """Where the programs of RabbitMQ find this server."""
        return {
            **os.environ,
            'HOME': str(self.path / 'home'),
            'ERL_EPMD_PORT': str(self.epmd_port),
            'ERL_EPMD_ADDRESS': '127.0.0.1',
            'RABBITMQ_NODENAME': f'test{self.port}@localhost',
            'RABBITMQ_NODE_IP_ADDRESS': '127.0.0.1',
            'RABBITMQ_NODE_PORT': str(self.port),
            'RABBITMQ_DIST_PORT': str(self.nodes),
            'RABBITMQ_MNESIA_BASE': str(self.path / 'mnesia'),
            'RABBITMQ_LOG_BASE': str(self.path / 'log'),
            'RABBITMQ_PID_FILE': str(self.path / 'pid'),
            'RABBITMQ_ENABLED_PLUGINS_FILE': str(self.path / 'enabled_plugins'),
            'RABBITMQ_CONF_ENV_FILE': str(self.path / 'env.conf'),
            'RABBITMQ_CONFIG_FILE': str(self.path / 'rabbitmq.conf'),
        }

    def url(self, vhost):
        """As Celery reads it."""
        return f'amqp://guest:guest@127.0.0.1:{self.port}/{vhost}'

    def new_vhost(self):
        """The name of a new virtual host."""
        vhost = f'test-{os.getpid()}-{next(self.numbers)}'
        self.api('PUT', f'/vhosts/{vhost}', {})
        return vhost

    def queues(self, vhost):
        """What is in each queue that outlives its connection: name to numbers of ready and unacknowledged messages."""
        # Without `disable_stats` the figures are some seconds old.
        found = self.api('GET', f'/queues/{vhost}?disable_stats=true&enable_queue_totals=true')
        return {
            queue['name']: (queue.get('messages_ready', 0), queue.get('messages_unacknowledged', 0))
            for queue in found
            if not queue['exclusive']
        }

    def api(self, method, path, body=None, headers=None):
        """Asks the management interface: `path` stands below /api."""
        request = urllib.request.Request(
            f'http://127.0.0.1:{self.management}/api{path}',
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                'Authorization': 'Basic ' + base64.b64encode(b'guest:guest').decode(),
                'Content-Type': 'application/json',
                **(headers or {}),
            },
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def ctl(self, *arguments):
        """Runs `rabbitmqctl`, which takes most of a second."""
        command = [f'{PROGRAMS}/rabbitmqctl', '-q', *arguments]
        return subprocess.run(command, env=self.environment(), check=True, capture_output=True, text=True).stdout

    def close_connections(self, vhost):
        """Closes all client connections of a virtual host at once, as an administrator does in the management's pages."""
        for connection in self.api('GET', f'/vhosts/{vhost}/connections'):
            name = urllib.parse.quote(connection['name'], safe='')
            try:
                self.api('DELETE', f'/connections/{name}', headers={'X-Reason': 'test'})
            except urllib.error.HTTPError as error:
                if error.code != 404:  # 404: it was closed meanwhile
                    raise

    def set_memory_alarm(self, is_set):
        """While it holds, the server reads nothing more from who publishes, and says so."""
        self.ctl('set_vm_memory_high_watermark', '0' if is_set else '0.9')


class RabbitServer(Rabbit):
    """Started on creation, unless `launch` is to be called. `settings`: further lines of its configuration."""

    def __init__(self, settings='', is_launched=True):
        self.directory = tempfile.TemporaryDirectory(prefix='rabbit-', ignore_cleanup_errors=True)
        super().__init__(self.directory.name, [free_port() for _ in range(4)])
        for name in ('home', 'mnesia', 'log'):
            (self.path / name).mkdir()
        for name in ('env.conf', 'out'):
            (self.path / name).touch()
        (self.path / 'enabled_plugins').write_text('[rabbitmq_management].')
        (self.path / 'rabbitmq.conf').write_text(
            'vm_memory_high_watermark.absolute = 512MB\ndisk_free_limit.absolute = 50MB\n'
            f'management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {self.management}\n{settings}'
        )
        cookie = self.path / 'home' / '.erlang.cookie'
        cookie.write_text(secrets.token_hex(20))
        cookie.chmod(0o400)
        # Without it the server would start one that stays.
        self.epmd = self._spawn(['epmd', '-address', '127.0.0.1', '-port', str(self.epmd_port)], self.environment())
        self.process = None
        try:
            if is_launched:
                self.launch()
        except BaseException:
            self.stop()
            raise

    def launch(self):
        """Starts it (again) in its directory, and waits until it takes connections."""
        self.begin()
        self.wait()

    def begin(self):
        """Starts it, and does not wait."""
        os.truncate(self.path / 'out', 0)
        # With its own input the script becomes the server; else it stays beside it. The channels' own clock, which looks
        # for what is unacknowledged for too long, ticks each minute by default.
        env = {
            **self.environment(),
            'RABBITMQ_ALLOW_INPUT': '1',
            'RABBITMQ_SERVER_START_ARGS': '-noinput',
            'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS': '-kernel inet_dist_use_interface {127,0,0,1}'
            ' -rabbit channel_tick_interval 1000',
        }
        self.process = self._spawn([f'{PROGRAMS}/rabbitmq-server'], env)

    def _is_ready(self):
        assert self.process.poll() is None, f'RabbitMQ ended: {self._said()}'
        return super()._is_ready()

    def _spawn(self, command, env):
        with open(self.path / 'out', 'ab') as out:
            return child.start(command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL)

    def kill(self):
        """kill -9. What is durable is there again after `launch`."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        for process in (self.process, self.epmd):
            if process is not None:
                process.kill()
                process.wait()
        self.directory.cleanup()
