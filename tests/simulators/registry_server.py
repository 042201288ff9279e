"""A registry on a free port in a thread of this process: the real application, the real sockets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import FastAPI

from mimo_fed_server.registry.http import build_app
from mimo_fed_server.registry.serve import listen, make_server
from mimo_fed_server.registry.service import Registry, initialize


@contextmanager
def serving(app: FastAPI, port: int = 0) -> Iterator[str]:
    """Serve an application; gives its URL."""
    listener, url = listen("127.0.0.1", port)
    server = make_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listener.close()


@contextmanager
def registry_server(home: Path, *, anchors: bytes = b"{}", port: int = 0) -> Iterator[str]:
    """Serve the registry in `home`, made first if it is not there."""
    if not (home / "root.json").exists():
        initialize(home, anchors=anchors)
    with serving(build_app(Registry(home)), port) as url:
        yield url
