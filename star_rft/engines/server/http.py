"""HTTP helpers for servers: address checks, secret keys, errors in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from star_rft.addresses import Key

if TYPE_CHECKING:
    import httpx

MENDABLE = frozenset({408, 425, 429, 500, 502, 503, 504})  # statuses that another try may mend
BEHIND = frozenset({502, 503, 504})  # those of them by which a gateway says that nobody is behind it
LONGEST_WAIT = 60.0  # seconds between two tries, whatever the server asks for
SHOWN = 200  # characters of a refusal


class TransientError(Exception):
    """A fault that another try may mend, in words.

    `is_away`: no server accepted the connection; `is_lost`: the connection or the server behind a gateway was lost, so
    that another server may answer there now. `wait` is how many seconds the server asked to wait before the next try.
    """

    def __init__(
        self, problem: str, *, is_away: bool = False, is_lost: bool = False, wait: float | None = None
    ) -> None:
        super().__init__(problem)
        self.is_away, self.is_lost, self.wait = is_away, is_lost or is_away, wait


def problem_with(response: httpx.Response, key: Key) -> str:
    """Return a status and the beginning of what came with it, in one line and without the key."""
    return f"{response.status_code} {shown(response, key)}".rstrip()


def shown(response: httpx.Response, key: Key) -> str:
    """Return the beginning of a response's text in one line, without the key."""
    return " ".join(key.hidden_in(response.text).split())[:SHOWN]


def wait_asked(response: httpx.Response) -> float | None:
    """Return the seconds of Retry-After, at most LONGEST_WAIT; None without one, or where it is a date."""
    asked = response.headers.get("Retry-After", "")
    return min(float(asked), LONGEST_WAIT) if asked.isdigit() else None


def parsed(response: httpx.Response, key: Key) -> dict[str, Any]:
    """Return the JSON object of an answer; one that breaks off, or is none, is a TransientError."""
    try:
        found = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise TransientError(f"an answer that is no JSON object: {shown(response, key)}")
    return found
