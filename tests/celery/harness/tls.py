"""A certificate made for a test by `openssl`, for a server on the loopback address."""

import subprocess

_NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']


class Certificate:
    """`own` and its `key`; `ca` vouches for it."""

    def __init__(self, directory):
        path = lambda name: str(directory / name)
        self.ca, self.own, self.key = path('ca.pem'), path('own.pem'), path('key.pem')
        _openssl('req', '-x509', *_NEW_KEY, '-days', '2', '-subj', '/CN=test', '-keyout', path('ca.key'), '-out', self.ca)
        _openssl('req', *_NEW_KEY, '-subj', '/CN=localhost', '-keyout', self.key, '-out', path('own.csr'))
        (directory / 'extensions').write_text('subjectAltName = IP:127.0.0.1, DNS:localhost\n')
        by = ['-CA', self.ca, '-CAkey', path('ca.key'), '-CAcreateserial', '-extfile', path('extensions')]
        _openssl('x509', '-req', '-days', '2', '-in', path('own.csr'), '-out', self.own, *by)


def _openssl(*words):
    subprocess.run(['openssl', *words], check=True, capture_output=True)
