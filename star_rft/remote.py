"""What every request to somebody else's server needs: a checked address, a key that nobody sees, a fault in words."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from star_rft.errors import UserError

if TYPE_CHECKING:
    import httpx

MENDABLE = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses that another try may mend
BEHIND = frozenset({502, 503, 504})  # those of them by which a gateway says that nobody is behind it
LONGEST_WAIT = 60.0  # seconds between two tries, whatever the server asks for
SHOWN = 200  # characters of a refusal


class Passing(Exception):
    """A fault that another try may mend, in words. `is_away`: nobody took the request at all; `is_lost`: who took it
    went away, and another may stand there now. `wait` is how many seconds the server asked to be left alone.
    """

    def __init__(
        self, problem: str, *, is_away: bool = False, is_lost: bool = False, wait: float | None = None
    ) -> None:
        super().__init__(problem)
        self.is_away, self.is_lost, self.wait = is_away, is_lost or is_away, wait


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


def problem_with(response: httpx.Response, key: Key) -> str:
    """Return a status and the beginning of what came with it, in one line and without the key."""
    return f"{response.status_code} {shown(response, key)}".rstrip()


def shown(response: httpx.Response, key: Key) -> str:
    return " ".join(key.hidden_in(response.text).split())[:SHOWN]


def wait_asked(response: httpx.Response) -> float | None:
    """Return the seconds of Retry-After, at most LONGEST_WAIT; None without one, or where it is a date."""
    asked = response.headers.get("Retry-After", "")
    return min(float(asked), LONGEST_WAIT) if asked.isdigit() else None


def parsed(response: httpx.Response, key: Key) -> dict[str, Any]:
    """Return the JSON object of an answer; one that breaks off, or is none, is a Passing fault."""
    try:
        found = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Passing(f"an answer that is no JSON object: {shown(response, key)}")
    return found
