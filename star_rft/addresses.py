"""Addresses of servers, and the keys for them, which are written nowhere."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from star_rft.errors import UserError


@dataclass(frozen=True, slots=True)
class Key:
    """A secret from the environment variable `variable`; empty where there is none. Its text shows nothing of it."""

    variable: str | None
    secret: str = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}"} if self.secret else {}

    def hidden_in(self, text: str) -> str:
        """Return a text without the key: servers repeat the one that they refuse."""
        return text.replace(self.secret, "(key)") if self.secret else text


def key_from(variable: str | None, *, of: str) -> Key:
    """Read a key; UserError where the variable is not set or holds what no header can."""
    secret = os.environ.get(variable, "").strip() if variable else ""
    if variable and not secret:
        raise UserError(f"{of}: the environment variable {variable} for its key is not set")
    if not secret.isascii() or not secret.isprintable():
        raise UserError(f"{of}: the environment variable {variable} holds characters that no key has")
    return Key(variable, secret)


def require_address(url: str) -> str:
    """Return an address without a slash at its end; UserError for one that is none, or that holds a password."""
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
