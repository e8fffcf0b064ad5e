"""Whose pages may talk to the server: under which host names a browser may have reached it, and from which page."""

import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers

LOCAL = ("localhost", "127.0.0.1", "[::1]", "::1")
PRIVATE = "private"
"""Among the names allowed: every address, and every name that nobody can have in the public DNS."""
_PRIVATE_ENDS = (".local", ".internal", ".localhost", ".home.arpa", ".lan")


def stranger(headers: Headers, allowed: Sequence[str]) -> str:
    """Why a request is not taken for one of this server's own clients; "" where it is.

    A page of somebody else's may reach a server on its visitor's machine: by a name of its own that points there (DNS rebinding),
    which is then the host, or across origins, which a browser tells. Other clients send no Origin.
    """
    host = headers.get("host", "").lower()
    name = _name(host)
    if "*" not in allowed and name not in allowed and not (PRIVATE in allowed and _private(name)):
        return f"{name[:100]!r}: this server does not answer to that host name"
    for origin in headers.getlist("origin"):
        if origin.lower().partition("://")[2] != host:
            return f"{origin[:100]!r}: pages of another origin may not use this server"
    return ""


def _name(host: str) -> str:
    name, _, port = host.rpartition(":")
    return name if port.isdecimal() else host


def _private(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        return True
    except ValueError:
        return bool(name) and ("." not in name or name.endswith(_PRIVATE_ENDS))
