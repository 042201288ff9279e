"""Downloading over HTTP so that an interrupted download goes on where it stopped.

What arrives is kept in a `.part` file that survives the process; the next attempt asks for the rest
(`Range`), but only of the same file (`If-Range` with its ETag). Nothing here is trusted: the caller verifies
the whole.
"""

from __future__ import annotations

import hashlib
import random
import re
import ssl
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import httpx

from mimo_fed.errors import TransportError, VerificationError

ATTEMPTS = 5
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)")

_STRONG_ETAG = re.compile(r'"[!#-~]{1,200}"')

Progress = Callable[[int, int], None]
"""called with (bytes there, bytes in all)"""


class RefusedByServer(TransportError):
    """The server answered, but not with the file."""

    def __init__(self, url: str, status: int) -> None:
        super().__init__(f"the server answered HTTP {status} for {url}")
        self.status = status


class Downloader:
    """Fetches files over one pool of connections.

    Args:
        parts: folder of the unfinished downloads.
        attempts: how often a file is asked for, once more whenever the connection is lost.
        timeout_s: longest silence on a connection.
    """

    def __init__(self, parts: Path, *, attempts: int = ATTEMPTS, timeout_s: float = 30.0) -> None:
        self._parts = parts
        self._attempts = attempts
        self._http = httpx.Client(
            verify=tls_context(), timeout=httpx.Timeout(timeout_s, connect=5.0), follow_redirects=False
        )
        self.bytes_down = 0

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def whole(self, url: str, max_bytes: int) -> bytes:
        """Return a small file of at most `max_bytes`, always from its beginning.

        Raises:
            TransportError: the server cannot be reached or refuses.
            VerificationError: there are more than `max_bytes`.
        """
        body = bytearray()

        def receive(response: httpx.Response) -> None:
            body.clear()
            for chunk in response.iter_raw():
                self.bytes_down += len(chunk)
                body.extend(chunk)
                if len(body) > max_bytes:
                    raise VerificationError(f"more than the {max_bytes} bytes it may have: {url}")

        self._persist(url, dict, receive)
        return bytes(body)

    def resumed(self, url: str, length: int, progress: Progress | None = None) -> Path:
        """Return a `.part` file of exactly `length` bytes, unverified; the caller removes it.

        Raises:
            TransportError: the server cannot be reached, refuses, or stops early; what came is kept.
            VerificationError: the file has another length.
        """
        self._parts.mkdir(parents=True, exist_ok=True)
        part = self._parts / f"{hashlib.sha256(url.encode()).hexdigest()}.part"
        tag = part.with_suffix(".etag")
        if part.exists() and part.stat().st_size > length:
            part.unlink()

        def headers() -> dict[str, str]:
            there = part.stat().st_size if part.exists() and tag.exists() else 0
            return {"range": f"bytes={there}-", "if-range": tag.read_text()} if there else {}

        def receive(response: httpx.Response) -> None:
            start = _range_start(response)
            declared = response.headers.get("content-length", "")
            if declared.isdecimal() and start + int(declared) != length:
                raise VerificationError(f"{start + int(declared)} bytes, where {length} were signed: {url}")
            if start == 0:
                part.unlink(missing_ok=True)
                tag.unlink(missing_ok=True)
                if _STRONG_ETAG.fullmatch(response.headers.get("etag", "")):
                    tag.write_text(response.headers["etag"])
            there = part.stat().st_size if part.exists() else 0
            if start != there:
                raise _Again(f"asked for byte {there} on, given byte {start} on")
            with part.open("ab", buffering=0) as file:
                for chunk in response.iter_raw():
                    self.bytes_down += len(chunk)
                    there += len(chunk)
                    if there > length:
                        break
                    file.write(chunk)
                    if progress is not None:
                        progress(there, length)
            if there > length:
                part.unlink()
                raise VerificationError(f"more than the {length} bytes it must have: {url}")
            if there < length:
                raise _Again(f"ended after {there} of {length} bytes")

        if part.exists() and part.stat().st_size == length:
            return part
        try:
            self._persist(url, headers, receive)
        except RefusedByServer as error:
            if error.status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.unlink(missing_ok=True)
            raise
        return part

    def _persist(
        self, url: str, headers: Callable[[], dict[str, str]], receive: Callable[[httpx.Response], None]
    ) -> None:
        pause_s = _FIRST_PAUSE_S
        for attempt in range(1, self._attempts + 1):
            try:
                with self._http.stream("GET", url, headers={"accept-encoding": "identity", **headers()}) as r:
                    if r.status_code not in (200, 206):
                        raise RefusedByServer(url, r.status_code)
                    receive(r)
                return
            except RefusedByServer as error:
                if error.status < 500 or attempt == self._attempts:
                    raise
            except (httpx.TransportError, _Again) as error:
                if attempt == self._attempts:
                    why = str(error) if isinstance(error, _Again) else type(error).__name__
                    raise TransportError(
                        f"the registry cannot be reached, or stopped: {why}: {url}",
                        hint="what is installed keeps serving; the next attempt goes on from here",
                    ) from None
            except httpx.InvalidURL:
                raise TransportError(f"not an address: {url}") from None
            time.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


@cache
def tls_context() -> ssl.SSLContext:
    """Return what checks servers' certificates; read once, since that takes as long as a small download."""
    return httpx.create_ssl_context()


class _Again(Exception):
    """The answer was not the whole rest of the file."""


def _range_start(response: httpx.Response) -> int:
    if response.status_code == 200:
        return 0
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if match is None:
        raise _Again("a partial answer that does not say which part")
    return int(match[1])
