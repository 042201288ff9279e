"""The enrolment authority: turns one-time tokens into device certificates, and logs every one it issues.

It is a process and a key of its own: who runs rounds must not be able to invent devices. A person makes a
token for a device and carries it there; the device makes its key, which never leaves it, and sends the public
half with the token. Only hashes of tokens are stored.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from mimo_fed import __version__
from mimo_fed.errors import ConfigError
from mimo_fed.secagg.crypto import SigningKey
from mimo_fed.secagg.identity import Certificate, check_name, issue_certificate
from mimo_fed_server.registry.database import open_engine
from mimo_fed_server.registry.files import write_atomically
from mimo_fed_server.registry.http import add_error_answers, read_body
from mimo_fed_server.registry.problems import BadRequest, Conflict, Unauthorized, Unavailable

TOKEN_BYTES = 32
TOKEN_LIFETIME_S = 24 * 3600
CERTIFICATE_LIFETIME_S = 365 * 24 * 3600
CLOCK_SKEW_S = 300
MAX_REQUEST_BYTES = 4096


class Base(DeclarativeBase):
    """Root of the authority's models."""


class Token(Base):
    """A right to enrol one device, once."""

    __tablename__ = "token"

    digest: Mapped[str] = mapped_column(primary_key=True)
    device_id: Mapped[str]
    expires_at_s: Mapped[int]
    serial: Mapped[int | None] = mapped_column(sa.ForeignKey("issuance.serial"))


class Issuance(Base):
    """One certificate; this log only grows."""

    __tablename__ = "issuance"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012

    serial: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    device_id: Mapped[str]
    public_key: Mapped[str]
    certificate: Mapped[str]
    issued_at_s: Mapped[int]


class Authority:
    """The authority's key and books.

    Args:
        home: where `initialize` put them.
        now_s: the clock, in seconds since the epoch.

    Raises:
        ConfigError: there is no authority in `home`.
    """

    def __init__(self, home: Path, *, now_s: Callable[[], float] = time.time) -> None:
        try:
            self._key = SigningKey.from_bytes((home / "authority.key").read_bytes())
        except FileNotFoundError:
            raise ConfigError(
                f"there is no authority here: {home}", hint="run `mimo-fed authority init`"
            ) from None
        self._engine = open_engine(f"sqlite:///{home.resolve() / 'authority.db'}")
        self._now_s = now_s
        Base.metadata.create_all(self._engine)

    @staticmethod
    def initialize(home: Path) -> bytes:
        """Make the key and return its public half, which is also in `home/public-key`.

        Raises:
            Conflict: there is an authority already.
        """
        if (home / "authority.key").exists():
            raise Conflict(f"there is an authority here already: {home}")
        key = SigningKey.generate(os.urandom)
        write_atomically(home / "public-key", key.public_key.hex().encode())
        write_atomically(home / "authority.key", key.to_bytes(), mode=0o600)
        return key.public_key

    @property
    def public_key(self) -> bytes:
        """What devices and the coordinator check certificates with."""
        return self._key.public_key

    def close(self) -> None:
        """Let the database go."""
        self._engine.dispose()

    def make_token(self, device_id: str, *, lifetime_s: int = TOKEN_LIFETIME_S) -> str:
        """Make a one-time token for a device; it is shown now and never again.

        Raises:
            PeerProtocolError: the device id is not a name.
        """
        check_name(device_id, "device id")
        token = token_urlsafe(TOKEN_BYTES)
        with Session(self._engine) as session, session.begin():
            session.add(
                Token(
                    digest=_digest(token),
                    device_id=device_id,
                    expires_at_s=int(self._now_s()) + lifetime_s,
                    serial=None,
                )
            )
        return token

    def enrol(self, token: str, device_id: str, public_key: bytes) -> Certificate:
        """Issue a certificate for a token; the same token and key again give the same certificate.

        Raises:
            Unauthorized: the token is unknown, expired, or another device's.
            Conflict: the token was used for another key.
            Unavailable: the database refuses.
        """
        try:
            with Session(self._engine) as session, session.begin():
                return self._enrol(session, token, device_id, public_key)
        except SQLAlchemyError as error:
            raise Unavailable(f"the authority's database refused: {type(error).__name__}") from error

    def log(self) -> list[dict[str, Any]]:
        """Return everything that was issued, oldest first."""
        with Session(self._engine) as session:
            return [
                {
                    "serial": row.serial,
                    "device_id": row.device_id,
                    "public_key": row.public_key,
                    "issued_at_s": row.issued_at_s,
                }
                for row in session.scalars(sa.select(Issuance).order_by(Issuance.serial))
            ]

    def _enrol(self, session: Session, token: str, device_id: str, public_key: bytes) -> Certificate:
        row = session.get(Token, _digest(token))
        if row is None or row.device_id != device_id:
            raise Unauthorized(
                f"no token for this device: {device_id}", hint="`mimo-fed authority token` makes one"
            )
        if row.serial is not None:
            issued = session.get_one(Issuance, row.serial)
            if issued.public_key != public_key.hex():
                raise Conflict(f"the token was used already, for another key: {device_id}")
            return Certificate.decode(bytes.fromhex(issued.certificate))
        now_s = int(self._now_s())
        if now_s > row.expires_at_s:
            raise Unauthorized(f"the token has expired: {device_id}", hint="make a new one")
        issuance = Issuance(
            device_id=device_id, public_key=public_key.hex(), certificate="", issued_at_s=now_s
        )
        session.add(issuance)
        session.flush()  # gives the serial, and holds the write lock until the transaction ends
        taken = session.execute(
            sa.update(Token)
            .where(Token.digest == row.digest, Token.serial.is_(None))
            .values(serial=issuance.serial)
            .returning(Token.digest)
        ).all()
        if not taken:
            raise Conflict(f"the token is being used by another request: {device_id}")
        certificate = issue_certificate(
            self._key,
            device_id=device_id,
            public_key=public_key,
            serial=issuance.serial,
            not_before_s=now_s - CLOCK_SKEW_S,
            not_after_s=now_s + CERTIFICATE_LIFETIME_S,
        )
        issuance.certificate = certificate.encode().hex()
        return certificate


class EnrolRequest(BaseModel):
    """What a device sends."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: str = Field(min_length=1, max_length=128)
    device_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    public_key: str = Field(pattern=r"^[0-9a-f]{64}$")


def build_app(authority: Authority) -> FastAPI:
    """Build the HTTP application: one route that matters."""
    app = FastAPI(title="MiMo-Fed enrolment authority", version=__version__)
    add_error_answers(app)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok", "version": __version__, "public_key": authority.public_key.hex()}

    @app.post("/v1/enrol", status_code=201)
    async def enrol(request: Request) -> dict[str, str]:
        try:
            asked = EnrolRequest.model_validate_json(await read_body(request, MAX_REQUEST_BYTES))
        except ValidationError as error:
            fields = sorted({".".join(map(str, e["loc"])) for e in error.errors()})
            raise BadRequest(f"the request is malformed: {', '.join(fields) or 'not JSON'}") from None
        certificate = await run_in_threadpool(
            authority.enrol, asked.token, asked.device_id, bytes.fromhex(asked.public_key)
        )
        return {"certificate": certificate.encode().hex()}

    return app


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
