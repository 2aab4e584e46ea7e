"""A proxy before a RabbitMQ server, which counts what passes. Source: AMQP 0-9-1, 4.2.3 (frames)."""

import contextlib
import socket
import struct
import threading

from support.server import free_port

HEADER = struct.Struct('>BHI')  # type, channel, length
METHOD, HEARTBEAT = 1, 8


class Wire:
    """Started on creation; ends with its process. `passed` has a word for each frame, whichever side sent it."""

    def __init__(self, server_port):
        self.port, self.server_port, self.passed = free_port(), server_port, []
        self.listener = socket.create_server(('127.0.0.1', self.port))
        self.ends = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """Ends all connections, and takes no more."""
        for end in [self.listener, *self.ends]:
            with contextlib.suppress(OSError):  # it has ended by itself
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:  # it is cut
                return self.listener.close()
            server = socket.create_connection(('127.0.0.1', self.server_port))
            self.ends += [client, server]
            for words in ((client, server, len(b'AMQP\0\0\x09\x01')), (server, client, 0)):
                threading.Thread(target=self._pass_on, args=words, daemon=True).start()

    def _pass_on(self, reads, writes, greeting):
        """A client's frames follow its greeting."""
        pending, skip = b'', greeting
        try:
            while data := reads.recv(65536):
                pending += data
                pending, skip = pending[skip:], max(skip - len(pending), 0)
                while len(pending) >= HEADER.size:
                    kind, _, length = HEADER.unpack_from(pending)
                    end = HEADER.size + length + 1
                    if len(pending) < end:
                        break
                    self.passed.append(word(kind, pending[HEADER.size : end]))
                    pending = pending[end:]
                writes.sendall(data)
        except OSError:  # one side has closed it
            pass
        finally:
            with contextlib.suppress(OSError):
                writes.shutdown(socket.SHUT_RDWR)


def word(kind, body):
    """`heartbeat`, `method 60.40` (class and method), or the type of the frame."""
    if kind == METHOD:
        return 'method {}.{}'.format(*struct.unpack_from('>HH', body))
    return 'heartbeat' if kind == HEARTBEAT else f'frame {kind}'
