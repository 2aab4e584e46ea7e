"""Every command that a Redis server gets, and from whom."""

import os
import threading
from contextlib import suppress
from pathlib import Path

from support.wait import until


class Monitor:
    """Listens from its creation on; use it with `with`."""

    def __init__(self, server):
        self._server = server
        self._seen = []
        self._marks = 0

    def __enter__(self):
        self._client = self._server.client()
        self._monitor = self._client.monitor().__enter__()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        with self._server.client() as client:
            client.execute_command('ECHO', 'monitor ends')
        self._thread.join()
        self._monitor.__exit__(None, None, None)
        self._client.close()

    def commands(self):
        """The commands so far, as `(address, command)`, in their order; without those of scripts."""
        self._marks += 1
        mark = f'ECHO monitor mark {self._marks}'
        with self._server.client() as client:
            client.execute_command('ECHO', f'monitor mark {self._marks}')
        until(lambda: any(command == mark for _, command in self._seen), 'the monitor sees the mark')
        mine = {address for address, command in self._seen if command.startswith('ECHO monitor')}
        return [(address, command) for address, command in self._seen if address not in mine]

    def _listen(self):
        for seen in self._monitor.listen():
            if seen['client_type'] != 'lua':
                self._seen.append((f'{seen["client_address"]}:{seen["client_port"]}', seen['command']))
            if seen['command'] == 'ECHO monitor ends':
                return


def addresses_of(pid):
    """From where a process is connected, by the kernel's own tables."""
    links = []
    for descriptor in Path(f'/proc/{pid}/fd').iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile, as that of a client of the metrics
            links.append(os.readlink(descriptor))
    inodes = {link[len('socket:[') : -1] for link in links if link.startswith('socket:[')}
    rows = [line.split() for line in Path(f'/proc/{pid}/net/tcp').read_text().splitlines()[1:]]
    ports = [int(row[1].rpartition(':')[2], 16) for row in rows if row[9] in inodes]
    return {f'127.0.0.1:{port}' for port in ports}
