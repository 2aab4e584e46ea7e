"""An HTTP server that keeps what it was asked."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextlib.contextmanager
def hears_requests():
    """A server with its `url`, and its `requests`: method, path, a header and the body of each."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get('Content-Length', 0)))
            self.server.requests.append((self.command, self.path, self.headers.get('X-Token'), body))
            self.send_response(204)
            self.end_headers()

        do_GET = do_POST = answer

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(('127.0.0.1', 0), Handler) as endpoint:
        endpoint.requests = []
        endpoint.url = f'http://127.0.0.1:{endpoint.server_port}'
        thread = threading.Thread(target=endpoint.serve_forever)
        thread.start()
        try:
            yield endpoint
        finally:
            endpoint.shutdown()
            thread.join()
