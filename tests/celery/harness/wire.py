"""A proxy before a RabbitMQ server, which counts what passes, and may keep it back. Source: AMQP 0-9-1, 4.2.3 (frames)."""

import contextlib
import socket
import struct
import threading

from support.server import free_port

HEADER = struct.Struct('>BHI')  # type, channel, length
METHOD, HEARTBEAT = 1, 8
PUBLISH, DELIVER, ACK = (f'method 60.{method}' for method in (40, 60, 80))


class Connection:
    """One that is passed on."""

    def __init__(self, client, server):
        self.client, self.server = client, server

    def end(self):
        for socket_ in (self.client, self.server):
            with contextlib.suppress(OSError):  # it has ended by itself
                socket_.shutdown(socket.SHUT_RDWR)


class Wire:
    """Started on creation; ends with its process. `passed` has a word for each frame, whichever side sent it."""

    def __init__(self, server_port):
        self.port, self.server_port, self.passed = free_port(), server_port, []
        self.listener = socket.create_server(('127.0.0.1', self.port))
        self.connections = []
        #: The connection on which something is kept back.
        self.holds = None
        self._kept_back, self._released = None, threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """Ends all connections, and takes no more."""
        with contextlib.suppress(OSError):  # it is cut already
            self.listener.shutdown(socket.SHUT_RDWR)
        for connection in self.connections:
            connection.end()

    def keep_back(self, word, from_server):
        """From now on the next frame of this word that this side sends, and all behind it on its way, wait for `release`."""
        self.holds, self._kept_back = None, (word, from_server)
        self._released.clear()

    def release(self):
        """What was kept back arrives, if its connection is there."""
        self._released.set()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:  # it is cut
                return self.listener.close()
            server = socket.create_connection(('127.0.0.1', self.server_port))
            connection = Connection(client, server)
            self.connections.append(connection)
            for from_server in (False, True):
                threading.Thread(target=self._pass_on, args=(connection, from_server), daemon=True).start()

    def _pass_on(self, connection, from_server):
        """A client's frames follow its greeting."""
        reads, writes = connection.client, connection.server
        if from_server:
            reads, writes = writes, reads
        try:
            if not from_server:
                writes.sendall(exactly(reads, len(b'AMQP\0\0\x09\x01')))
            while True:
                header = exactly(reads, HEADER.size)
                kind, _, length = HEADER.unpack(header)
                body = exactly(reads, length + 1)
                self._note(word(kind, body), connection, from_server)
                writes.sendall(header + body)
        except OSError:  # one side has closed it
            pass
        finally:
            with contextlib.suppress(OSError):
                writes.shutdown(socket.SHUT_RDWR)

    def _note(self, said, connection, from_server):
        self.passed.append(said)
        if (said, from_server) == self._kept_back:
            self._kept_back, self.holds = None, connection
            self._released.wait()


def exactly(reads, length):
    """So many bytes."""
    data = reads.recv(length, socket.MSG_WAITALL)
    if len(data) < length:
        raise ConnectionResetError('the connection has ended')
    return data


def word(kind, body):
    """`heartbeat`, `method 60.40` (class and method), or the type of the frame."""
    if kind == METHOD:
        return 'method {}.{}'.format(*struct.unpack_from('>HH', body))
    return 'heartbeat' if kind == HEARTBEAT else f'frame {kind}'
