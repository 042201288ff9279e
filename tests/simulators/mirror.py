"""A mirror of the registry's static files that lies when told to.

It serves a folder that looks like the registry's `tuf/` over real HTTP. `Mirror.lies` maps a part of a URL
path to a function that answers instead of the truth; `Mirror.asked` keeps what was asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

Lie = Callable[["Request", bytes], None]


class Request(BaseHTTPRequestHandler):
    """One request; a lie uses `answer` or writes to the connection itself."""

    protocol_version = "HTTP/1.1"
    mirror: Mirror

    def do_GET(self) -> None:
        path = unquote(self.path)
        self.mirror.asked.append((path, self.headers.get("range", "")))
        file = self.mirror.folder / path.removeprefix("/tuf/")
        truth = file.read_bytes() if file.is_file() else b""
        for part, lie in list(self.mirror.lies.items()):
            if part in path:
                with suppress(ConnectionError):
                    lie(self, truth)
                return
        if not file.is_file():
            self.answer(b"", status=404)
            return
        self.answer(truth)

    def answer(self, body: bytes, *, status: int = 200, claim: int | None = None) -> None:
        """Send `body`, honouring Range; `claim` is a Content-Length that need not be true."""
        etag, start = f'"{len(body)}"', 0
        wanted = self.headers.get("range", "")
        if wanted and self.headers.get("if-range") == etag:
            start, status = int(wanted.removeprefix("bytes=").rstrip("-")), 206
        self.send_response(status)
        if status == 206:
            self.send_header("content-range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("etag", etag)
        self.send_header("content-length", str(len(body) - start if claim is None else claim))
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(body[start:])

    def cut(self, body: bytes, sent: int) -> None:
        """Promise all of `body`, send up to byte `sent` of it, hang up."""
        wanted = self.headers.get("range", "")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("content-range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("etag", f'"{len(body)}"')
        self.send_header("content-length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:sent])
        self.close_connection = True

    def hold(self, body: bytes, sent: int) -> None:
        """Promise all of `body`, send the first `sent` bytes, then nothing, without hanging up."""
        self.send_response(200)
        self.send_header("etag", f'"{len(body)}"')
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:sent])
        self.rfile.read(1)  # returns when the peer has gone
        self.close_connection = True

    def endless(self) -> None:
        """Send bytes until the peer hangs up."""
        self.send_response(200)
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        while True:
            self.mirror.bytes_sent += self.wfile.write(b"\0" * 65536)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Mirror:
    """What the mirror serves and how it lies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lies: dict[str, Lie] = {}
        self.asked: list[tuple[str, str]] = []
        self.bytes_sent = 0
        self.url = ""


@contextmanager
def mirroring(folder: Path) -> Iterator[Mirror]:
    """Serve `folder` on a free port."""
    mirror = Mirror(folder)
    handler = type("Handler", (Request,), {"mirror": mirror})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        mirror.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield mirror
        finally:
            server.shutdown()
            thread.join()
