"""Ways in which the registry refuses, each with the HTTP status it is told by."""

from __future__ import annotations

from typing import ClassVar

from mimo_fed.errors import RegistryError


class Problem(RegistryError):
    """A refusal that is told to the one who asked."""

    code = "registry"
    status: ClassVar[int] = 500


class BadRequest(Problem):
    """The request is not what the route takes."""

    code = "registry.bad_request"
    status = 400


class Unauthorized(Problem):
    """No token, or not the right one."""

    code = "registry.unauthorized"
    status = 401


class NotFound(Problem):
    """There is no such thing here."""

    code = "registry.not_found"
    status = 404


class EmptyChannel(NotFound):
    """The channel has no release yet."""

    code = "registry.empty_channel"


class Conflict(Problem):
    """What is stored does not allow it."""

    code = "registry.conflict"
    status = 409


class TooLarge(Problem):
    """More bytes than the registry takes."""

    code = "registry.too_large"
    status = 413


class Unavailable(Problem):
    """Not now: the database is away or busy; asking again may help."""

    code = "registry.unavailable"
    status = 503
