"""The ways to a server that kombu knows: TLS, Sentinels, several servers; and a result backend with options of its own."""

import gc
import urllib.parse

import pytest
from celery import Celery

from harness.rabbit import RabbitServer
from harness.tls import Certificate
from support.server import RedisServer, Sentinel, free_port
from support.wait import until
from worker.sides import Side


class At:
    """A broker that is known by its URL alone."""

    transport = 'other'

    def __init__(self, url):
        self.url = url

    def close(self):
        """It is somebody else's."""


class TlsRedis(RedisServer):
    """Speaks TLS beside plain TCP."""

    def __init__(self, certificate):
        self.tls_port = free_port()
        files = ['--tls-cert-file', certificate.own, '--tls-key-file', certificate.key, '--tls-ca-cert-file', certificate.ca]
        super().__init__('--tls-port', str(self.tls_port), '--tls-auth-clients', 'no', *files)


@pytest.fixture(scope='session')
def certificate(tmp_path_factory):
    return Certificate(tmp_path_factory.mktemp('tls'))


@pytest.fixture(scope='session')
def tls_redis(certificate):
    server = TlsRedis(certificate)
    yield server
    server.stop()


@pytest.fixture(scope='module')
def tls_rabbit(certificate):
    """Speaks TLS on its `tls_port` beside plain TCP."""
    port = free_port()
    files = f'cacertfile = {certificate.ca}\nssl_options.certfile = {certificate.own}\nssl_options.keyfile = {certificate.key}'
    server = RabbitServer(f'listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.{files}\nssl_options.verify = verify_none\n')
    server.tls_port = port
    yield server
    server.stop()


@pytest.fixture
def by(worker_server):
    """A pool, and a producer, by these URLs: `by(broker, results, conf)`."""
    sides = []

    def make(broker, results=None, conf=None, kind='pool'):
        side = Side(kind, At(broker), worker_server, 6, conf)
        if results is not None:
            side.results_url = results
            side.app.conf.result_backend = results
        sides.append(side)
        return side

    yield make
    for side in sides:
        side.close()


def runs(side):
    """It starts, runs a task whose result it stores, and stops."""
    side.start(workers=1)
    assert side.send('shop.add', 1, 2).get(timeout=30) == 3
    assert side.stop() == [0], side.output()


@pytest.mark.parametrize('asked', ['CERT_NONE', 'optional', 'required'])
def test_redis_over_tls(by, tls_redis, certificate, asked):
    """Broker and results by `rediss://`; who does not check needs nobody to vouch."""
    options = {'ssl_cert_reqs': asked} | ({} if asked == 'CERT_NONE' else {'ssl_ca_certs': certificate.ca})
    url = lambda database: f'rediss://127.0.0.1:{tls_redis.tls_port}/{database}?{urllib.parse.urlencode(options)}'
    runs(by(url(0), url(1)))


def test_a_server_that_nobody_vouches_for_is_refused(by, tls_redis):
    side = by(f'rediss://127.0.0.1:{tls_redis.tls_port}/0?ssl_cert_reqs=required')
    process = side.start(workers=1, ready=False)
    until(lambda: 'certificate' in side.output().lower(), 'it says why')
    process.terminate()
    process.wait(60)


@pytest.mark.celery57
def test_redis_over_tls_by_a_dictionary(by, tls_redis, certificate):
    ssl = {'ssl_cert_reqs': 'required', 'ssl_ca_certs': certificate.ca}
    url = f'redis://127.0.0.1:{tls_redis.tls_port}'
    runs(by(f'{url}/0', f'{url}/1', {'broker_use_ssl': ssl, 'redis_backend_use_ssl': ssl}))


@pytest.mark.parametrize('asked', ['none', 'required'])
def test_rabbitmq_over_tls(by, tls_rabbit, certificate, asked):
    """Who does not check needs nobody to vouch."""
    url = f'amqps://guest:guest@127.0.0.1:{tls_rabbit.tls_port}/{tls_rabbit.new_vhost()}'
    ssl = {'cert_reqs': 0} if asked == 'none' else {'ca_certs': certificate.ca}
    runs(by(url, conf={'broker_use_ssl': ssl}))


def test_sentinels_of_broker_and_results(by):
    master = RedisServer()
    sentinel = Sentinel(master)
    try:
        nobody = f'sentinel://127.0.0.1:{free_port()}'
        url = lambda database: f'{nobody}/{database};sentinel://127.0.0.1:{sentinel.port}/{database}'
        options = {'master_name': 'main'}
        runs(by(url(0), url(1), {'broker_transport_options': options, 'result_backend_transport_options': options}))
    finally:
        gc.collect()  # results that are let go tell their server so, and would wait long for one that is gone
        sentinel.stop()
        master.stop()


@pytest.mark.parametrize('kind', ['stock', 'pool'])
def test_the_next_server_is_taken_when_one_is_away(by, worker_server, kind):
    """The first one is never there; the second is lost while it works."""
    first, second = RedisServer(), RedisServer()
    try:
        url = f'redis://127.0.0.1:{free_port()}/0;redis://127.0.0.1:{first.port}/0;redis://127.0.0.1:{second.port}/0'
        side = by(url, kind=kind)
        side.start('-Q', 'celery', workers=1)
        first.kill()
        other = by(f'redis://127.0.0.1:{second.port}/0')
        assert other.send('shop.add', 3, 4).get(timeout=60) == 7
        first.launch()
    finally:
        first.stop()
        second.stop()


def test_results_on_a_server_of_their_own(by, tls_redis, worker_server):
    """With a prefix, and other lives of failures."""
    conf = {'result_backend_transport_options': {'global_keyprefix': 'mine'}, 'result_expires': 100}
    side = by(f'redis://127.0.0.1:{worker_server.port}/7', f'redis://127.0.0.1:{tls_redis.port}/3', conf)
    side.start(workers=1)
    result = side.send('shop.add', 1, 2)
    assert result.get(timeout=30) == 3
    with tls_redis.client() as redis:
        redis.execute_command('SELECT', 3)
        assert 0 < redis.ttl(f'mine_celery-task-meta-{result.id}') <= 100


@pytest.mark.parametrize('broker', ['redis', 'rabbitmq'])
def test_results_wait_for_a_store_that_is_away(by, worker_server, request, broker):
    """The log says when it goes and when it is back; tasks go on meanwhile."""
    store = RedisServer()
    try:
        if broker == 'redis':
            url = f'redis://127.0.0.1:{worker_server.port}/7'
        else:
            rabbit = request.getfixturevalue('rabbit')
            url = rabbit.url(rabbit.new_vhost())
        side = by(url, f'redis://127.0.0.1:{store.port}/0')
        side.start(workers=1)
        store.kill()
        with Celery('producer', broker=url, set_as_current=False) as producer:
            for number in range(20):
                producer.send_task('shop.noted_quickly', (f'away {number}',), task_id=f'away-{number}')
        until(lambda: 'the store of results is away' in side.output(), 'it is said')
        until(lambda: side.runs('away 1'), 'tasks go on')
        store.launch()
        until(lambda: 'the store of results is back' in side.output(), 'it is said', 60)
        keys = [f'celery-task-meta-away-{number}' for number in range(20)]
        with store.client() as redis:
            until(lambda: redis.exists(*keys) == 20, 'all results are stored', 60)
        assert all(side.runs(f'away {number}') == 1 for number in range(20))
        assert side.output().count('the store of results is away') == 1, side.output()
    finally:
        store.stop()


@pytest.mark.parametrize('kind', ['pool', 'stock'])
@pytest.mark.parametrize('transport', ['redis', 'rabbitmq'])
def test_a_server_may_start_after_the_worker(by, kind, transport):
    server = RedisServer(is_launched=False) if transport == 'redis' else RabbitServer(is_launched=False)
    try:
        side = by(server.url if transport == 'redis' else server.url('/'), kind=kind)
        side.start(workers=1, ready=False)
        until(lambda: 'again' in side.output(), 'it says that it tries again')
        server.launch()
        assert side.send('shop.add', 1, 2).get(timeout=60) == 3
        assert side.stop() == [0], side.output()
    finally:
        server.stop()


def test_a_pool_that_waits_for_its_server_can_be_stopped(by):
    side = by('redis://127.0.0.1:1/0')
    side.start(workers=1, ready=False)
    until(lambda: 'tried again' in side.output(), 'it waits')
    assert side.stop() == [0], side.output()
