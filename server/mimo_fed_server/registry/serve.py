"""Running an application until it is told to stop."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from mimo_fed.errors import ConfigError
from mimo_fed_server.registry.files import write_atomically


def listen(host: str, port: int) -> tuple[socket.socket, str]:
    """Open the port, 0 for any free one, and return it with its URL; connections wait from now on.

    Raises:
        ConfigError: the address is not ours, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    shown = f"[{host}]" if family == socket.AF_INET6 else host
    return listener, f"http://{shown}:{listener.getsockname()[1]}"


def make_server(app: FastAPI) -> uvicorn.Server:
    """Build the server for an application; `run(sockets=[...])` serves, `should_exit = True` ends it."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
        )
    )


def serve(
    app: FastAPI, *, host: str, port: int, ready_file: Path | None, announce: Callable[[str], None]
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        app: what to serve.
        host: address to listen on.
        port: 0 picks a free one.
        ready_file: gets the URL once the port is open.
        announce: is told the URL.
    """
    listener, url = listen(host, port)
    with listener:
        if ready_file is not None:
            write_atomically(ready_file, url.encode())
        announce(url)
        make_server(app).run(sockets=[listener])
