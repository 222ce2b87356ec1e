"""A proxy in front of a real server of Chroma, which wants a key, and can refuse, be slow, or end.

Chroma's own server has no keys (read in its configuration, 1.5.9): who needs one puts such a proxy before it.
"""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

_HOP_BY_HOP = ("connection", "content-length", "host", "transfer-encoding", "accept-encoding")
TOKEN = "X-Chroma-Token"  # noqa: S105 (the name of the header)


class ChromaProxy:
    """A context: the server on `port`, behind a key if one is given."""

    def __init__(self, behind: int, *, key: str | None = None):
        self.key = key
        self.status: int | None = None  # of every answer
        self.text = "out of order"
        self.refused: set[bytes] = set()  # a request that holds one of these is refused
        self.slow = threading.Event()
        self._ended = threading.Event()
        self._behind = f"http://127.0.0.1:{behind}"
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                proxy._answer(self)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        if not self._ended.is_set():
            self._ended.set()
            self._server.shutdown()
            self._server.server_close()

    def _answer(self, request):
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if self.slow.is_set():
            self._ended.wait(20)
        if self.key is not None and request.headers.get(TOKEN) != self.key:
            status, content = 401, b"no such token: " + (request.headers.get(TOKEN) or "none").encode()
        elif self.status is not None:
            status, content = self.status, self.text.encode()
        elif any(wanted in body for wanted in self.refused) and request.path.endswith("/upsert"):
            status, content = 400, b"no room"
        else:
            headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
            url = self._behind + request.path
            found = httpx.request(request.command, url, content=body, headers=headers, timeout=60)
            status, content = found.status_code, found.content
        with contextlib.suppress(OSError):  # the client did not wait
            request.send_response(status)
            request.send_header("Content-Type", "application/json")
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            request.wfile.write(content)
