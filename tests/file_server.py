"""A server of files on this machine that can be as bad as a network."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Files by path, what was asked for, and what goes wrong.

    Attributes
    ----------
    files : path -> bytes
    asked : list of (path, Range header or None)
    cut : after how many bytes the connection breaks, for each of the next answers
    status : what to answer instead, for each of the next requests
    tells_length : whether answers have a Content-Length
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.cut: list[int] = []
        self.status: list[int] = []
        self.tells_length = True
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args):
        pass

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.asked.append((self.path, asked))
        if self.server.status:
            self.answer(self.server.status.pop(0), b"")
        elif self.path not in self.server.files:
            self.answer(404, b"nothing here")
        elif asked is None:
            self.answer(200, self.server.files[self.path])
        else:
            self.send_from(int(asked.removeprefix("bytes=").removesuffix("-")))

    def send_from(self, start):
        content = self.server.files[self.path]
        if start >= len(content):
            self.answer(416, b"", f"bytes */{len(content)}")
        else:
            self.answer(206, content[start:], f"bytes {start}-{len(content) - 1}/{len(content)}")

    def answer(self, status, content, content_range=None):
        self.send_response(status)
        if self.server.tells_length:
            self.send_header("Content-Length", str(len(content)))
        if content_range is not None:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        cut = self.server.cut.pop(0) if self.server.cut and status < 300 else None
        self.wfile.write(content[:cut])
        self.close_connection = True


@contextmanager
def serving():
    """A server for as long as the body runs."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
