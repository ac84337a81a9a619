"""Addresses of servers, and their keys, which come from environment variables and are never stored or printed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from star_rft.errors import UserError


@dataclass(frozen=True, slots=True)
class Key:
    """The secret of an environment variable, empty where none is named. Its repr leaves the secret out."""

    variable: str | None
    secret: str = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """Return the HTTP header that sends the key; none without a key."""
        return {"Authorization": f"Bearer {self.secret}"} if self.secret else {}

    def hidden_in(self, text: str) -> str:
        """Return a text with the key blanked out: a server may repeat the key that it refuses."""
        return text.replace(self.secret, "(key)") if self.secret else text


def key_from(variable: str | None, *, of: str) -> Key:
    """Read a key from the environment.

    Args:
        variable: Name of the environment variable; None: no key.
        of: What the key is for, for the text of errors.

    Raises:
        UserError: The variable is not set, or holds characters that an HTTP header cannot.
    """
    secret = os.environ.get(variable, "").strip() if variable else ""
    if variable and not secret:
        raise UserError(f"{of}: the environment variable {variable} for its key is not set")
    if not secret.isascii() or not secret.isprintable():
        raise UserError(f"{of}: the environment variable {variable} holds characters that no key has")
    return Key(variable, secret)


def require_address(url: str) -> str:
    """Return an http(s) address without its last slash; UserError for anything else, or an address with a password."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        shown = url if "@" not in url else "(with a password)"
        raise UserError(f"endpoint {shown!r} is no address: it should look like http://localhost:8000/v1")
    if parts.username is not None or parts.password is not None:
        raise UserError(f"endpoint at {parts.hostname}: leave the password out of the address and use key_variable")
    return url.rstrip("/")
