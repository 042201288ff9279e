"""The registry over HTTP.

Everything under `/tuf` is static, needs no identity and may be cached or mirrored by anyone: it is verified
by its signatures. Reading records is open; changing them needs the admin token.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException

from mimo_fed import __version__
from mimo_fed.errors import MimoFedError
from mimo_fed.secagg.evidence import MAX_EVIDENCE
from mimo_fed_server.registry.problems import (
    BadRequest,
    EmptyChannel,
    NotFound,
    Problem,
    TooLarge,
    Unauthorized,
)
from mimo_fed_server.registry.service import Registry
from mimo_fed_server.registry.store import Draft

MAX_ADAPTER_BYTES = 512 << 20
MAX_JSON_BYTES = 4 << 20
RENEW_EVERY_S = 60.0

_FOREVER = "public, max-age=31536000, immutable"
_log = logging.getLogger(__name__)


class ReleaseHeader(BaseModel):
    """What a publisher says of the bytes it sends, as JSON in the header `X-Release`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channel: str = Field(max_length=32)
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    base_fingerprint: str = Field(pattern=r"^[0-9A-Za-z]{1,64}$")
    basis_epoch: int = Field(ge=0, lt=1 << 31)
    spec_digest: str = Field(pattern=r"^[0-9A-Za-z]{0,64}$")
    round_id: str = Field(pattern=r"^[0-9A-Za-z._:-]{1,128}$")
    quorum_digest: str = Field(pattern=r"^([0-9a-f]{64})?$")
    evidence_digest: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")


class Promotion(BaseModel):
    """Body of a promotion."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    release: int = Field(ge=0, lt=1 << 62)


def build_app(registry: Registry) -> FastAPI:
    """Build the application: it prepares the registry when it starts and renews signatures as it serves."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(registry.start)
        renewal = asyncio.create_task(_renew(registry))
        try:
            yield
        finally:
            renewal.cancel()
            with suppress(asyncio.CancelledError):
                await renewal
            registry.close()

    app = FastAPI(title="MiMo-Fed registry", version=__version__, lifespan=lifespan)
    add_error_answers(app)
    _add_static_routes(app, registry)
    _add_read_routes(app, registry)
    _add_admin_routes(app, registry)
    return app


def add_error_answers(app: FastAPI) -> None:
    """Answer every error as `{"error": {code, message, hint}}`."""

    @app.exception_handler(MimoFedError)
    async def ours(_: Request, error: MimoFedError) -> JSONResponse:
        return _error(error.status if isinstance(error, Problem) else 500, error)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        places = sorted({".".join(map(str, e["loc"])) for e in error.errors()})
        return _error(400, BadRequest(f"the request is malformed at {', '.join(places)}"))

    @app.exception_handler(HTTPException)
    async def theirs(_: Request, error: HTTPException) -> JSONResponse:
        kind = NotFound if error.status_code == 404 else BadRequest
        return _error(error.status_code, kind(str(error.detail)))


def _add_static_routes(app: FastAPI, registry: Registry) -> None:
    @app.api_route("/tuf/metadata/{name}", methods=["GET", "HEAD"], operation_id="metadata")
    def metadata(name: str, request: Request) -> Response:
        path = registry.repository.metadata_file(name)
        if path is None:
            raise NotFound(f"no such metadata: {name[:100]}")
        data = path.read_bytes()
        caching = "no-cache" if name == "timestamp.json" else _FOREVER
        headers = {"etag": f'"{hashlib.sha256(data).hexdigest()}"', "cache-control": caching}
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(data, media_type="application/json", headers=headers)

    @app.api_route("/tuf/targets/{path:path}", methods=["GET", "HEAD"], operation_id="target")
    def target(path: str, request: Request) -> Response:
        file = registry.repository.target_file(path)
        if file is None:
            raise NotFound(f"no such target: {path[:200]}")
        headers = {"etag": f'"{file.name.partition(".")[0]}"', "cache-control": _FOREVER}
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return FileResponse(file, media_type="application/octet-stream", headers=headers)


def _add_read_routes(app: FastAPI, registry: Registry) -> None:
    @app.get("/health")
    def health() -> dict[str, Any]:
        registry.store.ping()
        return {
            "status": "ok",
            "version": __version__,
            "timestamp_expires": registry.repository.timestamp_expires().isoformat(),
        }

    @app.get("/v1/channels/{channel}")
    def channel_latest(channel: str) -> dict[str, str]:
        info = registry.store.latest(channel)
        if info is None:
            raise EmptyChannel(f"the channel has no release yet: {channel}")
        return info.to_custom()

    @app.get("/v1/releases")
    def releases() -> list[dict[str, Any]]:
        return registry.store.releases()

    @app.get("/v1/rounds")
    def rounds() -> list[dict[str, Any]]:
        return registry.store.rounds()


def _add_admin_routes(app: FastAPI, registry: Registry) -> None:
    def admin(authorization: Annotated[str, Header()] = "") -> None:
        expected = f"Bearer {registry.admin_token}"
        if not hmac.compare_digest(authorization.encode(), expected.encode()):
            raise Unauthorized("the admin token is missing or wrong", hint="it is in DIR/admin-token")

    guarded = [Depends(admin)]

    @app.put("/v1/evidence/{digest}", dependencies=guarded)
    async def put_evidence(digest: str, request: Request) -> dict[str, str]:
        evidence = await read_body(request, MAX_EVIDENCE)
        if hashlib.sha256(evidence).hexdigest() != digest:
            raise BadRequest(f"the bytes are not what the address says: {digest[:100]}")
        kept, votes = await run_in_threadpool(registry.keep_evidence, evidence)
        return {"digest": kept, "quorum_digest": votes}

    @app.post("/v1/releases", status_code=201, dependencies=guarded)
    async def publish(request: Request, x_release: Annotated[str, Header(max_length=4096)]) -> dict[str, str]:
        try:
            header = ReleaseHeader.model_validate_json(x_release)
        except ValidationError as error:
            fields = sorted({".".join(map(str, e["loc"])) for e in error.errors()})
            raise BadRequest(f"the header X-Release is malformed: {', '.join(fields)}") from None
        adapter = await read_body(request, MAX_ADAPTER_BYTES)
        if hashlib.sha256(adapter).hexdigest() != header.digest:
            raise BadRequest(f"the bytes are not what the header says: {header.digest}")
        draft = Draft(length=len(adapter), **header.model_dump(exclude={"channel"}))
        info = await run_in_threadpool(registry.publish, adapter, draft, header.channel)
        return info.to_custom()

    @app.post("/v1/channels/{channel}/promote", dependencies=guarded)
    def promote(channel: str, promotion: Promotion) -> dict[str, str]:
        return registry.promote(promotion.release, channel).to_custom()

    @app.put("/v1/rounds/{round_id}", dependencies=guarded)
    async def put_round(round_id: str, request: Request) -> dict[str, str]:
        if len(round_id) > 128:
            raise BadRequest("a round's name is at most 128 characters")
        try:
            record = json.loads(await read_body(request, MAX_JSON_BYTES))
        except (ValueError, RecursionError):
            raise BadRequest("the body is not JSON") from None
        if not isinstance(record, dict):
            raise BadRequest("a round's record is an object")
        await run_in_threadpool(registry.store.put_round, round_id, record)
        return {"round_id": round_id}


async def read_body(request: Request, limit: int) -> bytes:
    """Read a body of at most `limit` bytes, whatever its headers claim.

    Raises:
        TooLarge: there is more.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLarge(f"the body is larger than {limit} bytes")
    return bytes(body)


async def _renew(registry: Registry) -> None:
    while True:
        await asyncio.sleep(RENEW_EVERY_S)
        try:
            await run_in_threadpool(registry.repository.renew)
        except MimoFedError as error:
            _log.error("signatures could not be renewed: %s", error)


def _error(status: int, error: MimoFedError) -> JSONResponse:
    content = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
    return JSONResponse(content, status_code=status)
