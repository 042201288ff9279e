"""A gate before the SuperLink that lets devices reach its fleet API and nothing else.

A SuperLink answers devices, coordinator and administrators on one port, and whoever reaches its control API
may submit an app, which the coordinator's machine would then run. So devices are given the gate's address,
and the SuperLink's own is kept on a network that they are not on.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

from mimo_fed import __version__
from mimo_fed.errors import ConfigError
from mimo_fed_server.registry.serve import listen

CALLS = (
    "register-node",
    "activate-node",
    "deactivate-node",
    "unregister-node",
    "send-node-heartbeat",
    "pull-messages",
    "push-messages",
    "get-run",
    "get-fab",
    "push-object",
    "pull-object",
    "confirm-message-received",
)
"""what a SuperNode of Flower 1.41 and 1.42 calls"""
HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"host")
)
"""headers that mean one connection, not the message"""
TIMEOUT_S = 120.0


def build_gate(superlink: str, root_certificates: Path | None) -> FastAPI:
    """Build the application: each call of the fleet API is passed on as it comes, byte for byte.

    Args:
        superlink: host:port.
        root_certificates: PEM file to check the SuperLink's certificate with; None: no TLS.

    Raises:
        ConfigError: the PEM file cannot be used.
    """
    scheme = "http" if root_certificates is None else "https"
    upstream = httpx.AsyncClient(
        base_url=f"{scheme}://{superlink}",
        verify=_context(root_certificates),
        timeout=httpx.Timeout(TIMEOUT_S, connect=5.0),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        trust_env=False,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with upstream:
            yield

    app = FastAPI(title="MiMo-Fed gate", version=__version__, lifespan=lifespan, openapi_url=None)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    async def pass_on(request: Request) -> Response:
        asked = upstream.build_request(
            "POST", request.url.path, headers=_end_to_end(request.headers.raw), content=request.stream()
        )
        try:
            answer = await upstream.send(asked, stream=True)
        except httpx.TransportError as error:
            return Response(f"the SuperLink cannot be reached: {type(error).__name__}", status_code=502)
        response = StreamingResponse(
            answer.aiter_raw(), status_code=answer.status_code, background=BackgroundTask(answer.aclose)
        )
        response.raw_headers = _end_to_end(answer.headers.raw)
        return response

    for call in CALLS:
        app.add_api_route(f"/v1/fleet/{call}", pass_on, methods=["POST"])
    return app


def serve(
    superlink: str,
    host: str,
    port: int,
    *,
    root_certificates: Path | None = None,
    certificate: tuple[Path, Path] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        superlink: host:port of the SuperLink.
        host: address to listen on.
        port: where devices connect.
        root_certificates: PEM file to check the SuperLink with; None: no TLS to it.
        certificate: PEM files, certificate and key, shown to devices; None: no TLS.

    Raises:
        ConfigError: a file cannot be used, or the port is taken.
    """
    config = uvicorn.Config(
        build_gate(superlink, root_certificates),
        http="h11",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=5,
    )
    if certificate is not None:
        config.ssl_certfile, config.ssl_keyfile = certificate
    try:
        config.load()
    except OSError as error:
        raise ConfigError(f"the gate's certificate cannot be used: {error}") from None
    listener, _ = listen(host, port)
    with listener:
        uvicorn.Server(config).run(sockets=[listener])


def _context(root_certificates: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=root_certificates)
    except OSError as error:
        raise ConfigError(f"root certificates cannot be used: {root_certificates} ({error})") from None


def _end_to_end(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name.lower() not in HOP_BY_HOP]
