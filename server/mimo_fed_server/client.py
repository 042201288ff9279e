"""The coordinator's way to the registry.

Every call may be repeated without harm, so every call is: the registry may be restarted in the middle of one.
"""

from __future__ import annotations

import hashlib
import json
import random
import ssl
import time
from functools import cache
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from mimo_fed.errors import ConfigError, RegistryError, ReleaseError
from mimo_fed.release import ReleaseInfo

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_TRY_AGAIN = (502, 503, 504)


class RegistryClient:
    """Publishes releases, moves channels and reports rounds.

    Args:
        url: of the registry, such as `http://127.0.0.1:8090`.
        token: the admin token; empty for reading only.
        patience_s: how long a call is repeated while the registry cannot be reached.
    """

    def __init__(self, url: str, token: str = "", *, patience_s: float = 60.0) -> None:
        self._url = url.rstrip("/")
        self._patience_s = patience_s
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"not a registry's address: {url}", hint="such as http://127.0.0.1:8090")
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            self._http = httpx.Client(
                base_url=self._url,
                headers=headers,
                timeout=httpx.Timeout(30.0, connect=5.0),
                verify=_tls(),
            )
        except (httpx.InvalidURL, UnicodeEncodeError):
            raise ConfigError(f"not a registry's address: {url}") from None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def publish(
        self,
        adapter: bytes,
        *,
        channel: str,
        base_fingerprint: str,
        basis_epoch: int,
        spec_digest: str,
        round_id: str,
        quorum_digest: str,
        evidence: bytes = b"",
    ) -> ReleaseInfo:
        """Publish an adapter and point a channel to it; the same round and bytes again give the same release.

        Args:
            adapter: its bytes.
            channel: to point to it.
            base_fingerprint: the base model that it fits.
            basis_epoch: of its shape.
            spec_digest: of its shape.
            round_id: the round it was made from.
            quorum_digest: names the quorum certificate of that round; empty for a release of no round.
            evidence: of that round, with that certificate; it is sent first.

        Raises:
            RegistryError: the registry refused, or stayed away for `patience_s`.
        """
        evidence_digest = self._put_evidence(evidence) if evidence else ""
        header = {
            "channel": channel,
            "digest": hashlib.sha256(adapter).hexdigest(),
            "base_fingerprint": base_fingerprint,
            "basis_epoch": basis_epoch,
            "spec_digest": spec_digest,
            "round_id": round_id,
            "quorum_digest": quorum_digest,
            "evidence_digest": evidence_digest,
        }
        headers = {"x-release": json.dumps(header), "content-type": "application/octet-stream"}
        return _info(self._send("POST", "/v1/releases", content=adapter, headers=headers))

    def latest(self, channel: str) -> ReleaseInfo | None:
        """Return what a channel points to; None before its first release."""
        try:
            return _info(self._send("GET", f"/v1/channels/{quote(channel, safe='')}"))
        except RegistryError as error:
            if error.code == "registry.empty_channel":
                return None
            raise

    def download(self, info: ReleaseInfo) -> bytes:
        """Return a release's bytes.

        Raises:
            RegistryError: absent, or not the bytes of its digest.
        """
        folder, _, name = info.path.rpartition("/")
        data = self._send("GET", f"/tuf/targets/{quote(folder)}/{info.digest}.{quote(name)}").content
        if hashlib.sha256(data).hexdigest() != info.digest:
            raise RegistryError(f"the registry sent other bytes than release {info.number}: {info.digest}")
        return data

    def promote(self, number: int, channel: str) -> ReleaseInfo:
        """Point a channel to a release that exists; it can only go forward."""
        return _info(
            self._send("POST", f"/v1/channels/{quote(channel, safe='')}/promote", json={"release": number})
        )

    def put_round(self, round_id: str, record: dict[str, Any]) -> None:
        """Report a round; a later report replaces the earlier one."""
        self._send("PUT", f"/v1/rounds/{quote(round_id, safe='')}", json=record)

    def rounds(self) -> list[dict[str, Any]]:
        """Return all reported rounds, oldest first."""
        records: list[dict[str, Any]] = self._json("GET", "/v1/rounds")
        return records

    def releases(self) -> list[dict[str, Any]]:
        """Return all releases, lowest number first."""
        releases: list[dict[str, Any]] = self._json("GET", "/v1/releases")
        return releases

    def health(self) -> dict[str, Any]:
        """Return the registry's own word on how it is."""
        health: dict[str, Any] = self._json("GET", "/health")
        return health

    def _put_evidence(self, evidence: bytes) -> str:
        digest = hashlib.sha256(evidence).hexdigest()
        headers = {"content-type": "application/octet-stream"}
        self._send("PUT", f"/v1/evidence/{digest}", content=evidence, headers=headers)
        return digest

    def _json(self, method: str, path: str) -> Any:
        response = self._send(method, path)
        try:
            return response.json()
        except ValueError:
            raise RegistryError(f"the registry's answer is not JSON: {path}") from None

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        give_up_at = time.monotonic() + self._patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                response = self._http.request(method, path, **request)
            except httpx.LocalProtocolError:
                raise ConfigError("the admin token is not one line of text") from None
            except (httpx.TransportError, httpx.DecodingError) as error:
                problem = RegistryError(
                    f"the registry cannot be reached at {self._url}: {type(error).__name__}",
                    hint="is `mimo-fed registry serve` running?",
                )
            else:
                if response.is_success:
                    return response
                problem = _refusal(response)
                if response.status_code not in _TRY_AGAIN:
                    raise problem
            if time.monotonic() + pause_s > give_up_at:
                raise problem
            time.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _refusal(response: httpx.Response) -> RegistryError:
    try:
        told = response.json()["error"]
        refusal = RegistryError(str(told["message"])[:1000], hint=str(told.get("hint", ""))[:1000])
        refusal.code = str(told["code"])[:100]
    except (ValueError, KeyError, TypeError, AttributeError):
        return RegistryError(f"the registry refused: HTTP {response.status_code}")
    return refusal


def _info(response: httpx.Response) -> ReleaseInfo:
    try:
        return ReleaseInfo.from_json(response.content)
    except ReleaseError as error:
        raise RegistryError(f"the registry's answer is not a release: {error.message}") from None
