"""Enrolment: a one-time token and a fresh public key against a certificate."""

from __future__ import annotations

import random
import time

import httpx

from mimo_fed.errors import PeerProtocolError, RegistryError, TransportError
from mimo_fed.secagg.crypto import SigningKey
from mimo_fed.secagg.identity import Certificate
from mimo_fed_client.download import tls_context

MAX_ANSWER_BYTES = 64 << 10
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 2.0


def enrol(url: str, token: str, device_id: str, key: SigningKey, *, patience_s: float = 15.0) -> Certificate:
    """Get a certificate for this device's key; the private half stays here.

    An answer that is lost on the way costs nothing: the same token and key give the same certificate.

    Args:
        url: of the enrolment authority.
        token: the one-time token that was made for this device.
        device_id: the name that the token is for.
        key: this device's own.
        patience_s: how long to try while the authority cannot be reached.

    Raises:
        TransportError: the authority cannot be reached.
        RegistryError: it refused the token.
        PeerProtocolError: its answer is not a certificate for this device and key.
    """
    request = {"token": token, "device_id": device_id, "public_key": key.public_key.hex()}
    answer = _post(f"{url.rstrip('/')}/v1/enrol", request, time.monotonic() + patience_s)
    try:
        encoded = bytes.fromhex(answer["certificate"])
    except (ValueError, KeyError, TypeError):
        raise PeerProtocolError(f"the authority's answer holds no certificate: {url}") from None
    certificate = Certificate.decode(encoded)
    if certificate.device_id != device_id or certificate.public_key != key.public_key:
        raise PeerProtocolError(f"the certificate is for another device or key: {certificate.device_id}")
    return certificate


def _post(url: str, request: dict[str, str], give_up_at: float) -> dict[str, str]:
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            with httpx.Client(verify=tls_context(), timeout=10.0) as http:
                response = http.post(url, json=request)
            if response.status_code < 500:
                return _answer(response)
            why = f"HTTP {response.status_code}"
        except (httpx.TransportError, httpx.DecodingError) as error:
            why = type(error).__name__
        except httpx.InvalidURL:
            raise TransportError(f"not an address: {url}") from None
        if time.monotonic() + pause_s > give_up_at:
            raise TransportError(
                f"the authority cannot be reached: {why}: {url}",
                hint="is `mimo-fed authority serve` running there?",
            )
        time.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _answer(response: httpx.Response) -> dict[str, str]:
    if len(response.content) > MAX_ANSWER_BYTES:
        raise PeerProtocolError(f"the authority's answer is too long: {len(response.content)}")
    try:
        body = response.json()
    except ValueError:
        raise PeerProtocolError(f"the authority's answer is not JSON: HTTP {response.status_code}") from None
    if response.is_success and isinstance(body, dict):
        return body
    told = body.get("error") if isinstance(body, dict) else None
    if not isinstance(told, dict):
        raise RegistryError(f"the authority refused: HTTP {response.status_code}")
    raise RegistryError(str(told.get("message", ""))[:1000], hint=str(told.get("hint", ""))[:1000])
